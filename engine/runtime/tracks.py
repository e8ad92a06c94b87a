"""Which versions compute at this moment, written where it outlives this process: in a file mapped into memory.

A graph can end the process that runs it by a fault in native code, which nothing in Python catches. What a next process
makes of what it finds in the file is `engine.repository.faults`'.
"""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

__all__ = ["Track", "Tracks"]

_SLOTS = 4096
_SLOT_BYTES = 256
"""One byte says whether it computes; the name follows, filled up with zeros."""


class Tracks:
    """A slot for each version that was opened.

    Args:
        file: of this process's alone; what it held before is read and forgotten.

    Attributes:
        left: the versions that computed when the process before ended.

    Raises:
        OSError: the disk takes no such file.
    """

    def __init__(self, file: Path) -> None:
        self.left = _computing(file.read_bytes()) if file.exists() else frozenset[str]()
        with file.open("wb+") as opened:
            opened.truncate(_SLOTS * _SLOT_BYTES)
            self._map = mmap.mmap(opened.fileno(), _SLOTS * _SLOT_BYTES)
        self._slots: dict[str, int] = {}

    def of(self, name: str, alone: threading.Lock | None = None) -> Track:
        """The track of a version; one that finds no slot any more leaves none.

        Args:
            name: the version's full name.
            alone: held while it computes, where it may compute only while certain others do not.
        """
        at = self._slots.get(name)
        if at is None:
            encoded, at = name.encode(), len(self._slots) * _SLOT_BYTES
            if len(self._slots) == _SLOTS or len(encoded) >= _SLOT_BYTES:
                return Track(None, 0, alone)
            self._slots[name] = at
            self._map[at + 1 : at + 1 + len(encoded)] = encoded
        return Track(self._map, at, alone)


class Track:
    """Entered for each run of a version, from whatever thread.

    Attributes:
        alone: see `Tracks.of`.
    """

    def __init__(self, slots: mmap.mmap | None, at: int, alone: threading.Lock | None) -> None:
        self.alone = alone
        self._slots = slots
        self._at = at
        self._runs = 0
        self._changing = threading.Lock()

    def __enter__(self) -> None:
        """A run begins."""
        if self.alone is not None:
            self.alone.acquire()
        with self._changing:
            self._runs += 1
            if self._runs == 1 and self._slots is not None:
                self._slots[self._at] = 1

    def __exit__(self, *_: object) -> None:
        """It has ended."""
        with self._changing:
            self._runs -= 1
            if not self._runs and self._slots is not None:
                self._slots[self._at] = 0
        if self.alone is not None:
            self.alone.release()


def _computing(data: bytes) -> frozenset[str]:
    slots = (data[at : at + _SLOT_BYTES] for at in range(0, len(data), _SLOT_BYTES))
    return frozenset(slot[1:].rstrip(b"\0").decode(errors="replace") for slot in slots if slot[:1] == b"\1")
