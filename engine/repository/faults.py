"""Versions that ended the engine while they computed: the second time they are not loaded by themselves any more.

A fault in native code (SIGFPE, SIGSEGV, SIGABRT …) leaves its name in a file, and the versions that computed are in
another one. After the first fault all of these are suspects, and only one of them computes at a time; the one that
computes at the next is blamed. Whoever was killed from outside (SIGKILL) leaves no fault and blames nobody.
"""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec
import structlog

from engine.errors import ModelFaultError
from engine.runtime.tracks import Track, Tracks

__all__ = ["Faults"]

_SUSPECT_S = 600.0
"""How long after a fault the next one is laid to the versions that computed at the first."""
_SAID_BYTES = 4000


class _Known(msgspec.Struct):
    """What is kept from one process to the next.

    Attributes:
        suspects: versions, with when the engine ended while they computed, seconds since the epoch.
        blamed: versions, with the fault that they ended it with.
    """

    suspects: dict[str, float] = {}
    blamed: dict[str, str] = {}


class Faults:
    """Knows which versions ended the engine.

    Args:
        folder: of this engine's alone.
        clock: seconds since the epoch.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._file, self._end = folder / "known.json", folder / "end"
        self._clock = clock
        self._one = threading.Lock()
        self._known = _Known()
        self._tracks: Tracks | None = None
        self._said: IO[bytes] | None = None
        self._log = structlog.get_logger("engine.repository")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open(folder)
        except OSError as error:  # a disk that takes nothing keeps nobody from computing
            self._log.warning("faults are not kept", error=str(error))

    def _open(self, folder: Path) -> None:
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            self._known = msgspec.json.decode(self._file.read_bytes(), type=_Known)
        now = self._clock()
        self._known.suspects = {name: at for name, at in self._known.suspects.items() if 0 <= now - at < _SUSPECT_S}
        said = self._end.read_bytes()[:_SAID_BYTES].decode(errors="replace") if self._end.exists() else ""
        self._tracks = Tracks(folder / "computing")
        if said:
            self._judge(said, self._tracks.left, now)
        self._end.unlink(missing_ok=True)

    def watch(self) -> None:
        """Have the process say of a fault that ends it which it was."""
        with suppress(OSError):  # as above
            self._said = self._end.open("wb")
            faulthandler.enable(self._said)

    def track(self, name: str) -> Track | None:
        """What a version's runs enter; None where nothing is kept of them."""
        if self._tracks is None:
            return None
        return self._tracks.of(name, self._one if name in self._known.suspects else None)

    def check(self, name: str) -> None:
        """See that a version may be loaded.

        Raises:
            ModelFaultError: it ended the engine.
        """
        fault = self._known.blamed.get(name)
        if fault is not None:
            raise ModelFaultError(
                f"{name} ended the engine twice while it computed ({fault}), so it is not loaded by itself any more: "
                "push a version whose graph takes every request, or load this one all the same",
                resource=name,
            )

    def forgive(self, name: str) -> None:
        """Somebody wants a version all the same; or it is deleted, or all of a model's are."""
        kept = [
            {each: said for each, said in known.items() if each != name and not each.startswith(f"{name}/")}
            for known in (self._known.suspects, self._known.blamed)
        ]
        if kept != [self._known.suspects, self._known.blamed]:
            self._known = msgspec.convert({"suspects": kept[0], "blamed": kept[1]}, _Known)
            self._write()

    def close(self) -> None:
        """The engine ends as it should: nobody is a suspect any more."""
        if self._said is not None:
            faulthandler.disable()
            self._said.close()
            self._said = None
        if self._known.suspects:
            self._known.suspects = {}
            self._write()

    def _judge(self, said: str, computing: frozenset[str], now: float) -> None:
        """Lay the end of the process before to who computed then."""
        first = said.partition("\n")[0]
        fault = first.removeprefix("Fatal Python error: ").strip() or "a fault"
        guilty = computing & self._known.suspects.keys()
        self._known.blamed |= dict.fromkeys(guilty, fault)
        self._known.suspects |= dict.fromkeys(() if guilty else computing, now)
        for name in guilty:
            del self._known.suspects[name]
        self._write()
        self._log.error(
            "engine ended by a fault",
            error=fault,
            computing=sorted(computing),
            blamed=sorted(guilty),
            said=said,
        )

    def _write(self) -> None:
        part = self._file.with_suffix(".part")
        with suppress(OSError):  # as above
            part.write_bytes(msgspec.json.encode(self._known))
            part.replace(self._file)
