"""The spool's first page: a file to which the record of a call that changed nothing is appended before its answer goes.

One `write(2)` puts a record where the death of the process cannot take it (power loss can); no thread and no lock is
waited for. `mesh.record` has the file shipped soon after and at every start.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mesh.db import DatabaseFullError

__all__ = ["Spool"]

_HEAD = struct.Struct("<II")
"""Before each record: its length in bytes and its CRC-32."""


class Spool:
    """An append-only file of records; sealed now and then, so that what it holds can move on while more is appended.

    Args:
        folder: where its files are, `HOME/<service>`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "records.spool"
        self._sealed = folder / "records.sealed"
        self._end = 0
        self._open()
        with self._path.open("rb") as file:
            whole = sum(_HEAD.size + len(record) for record in _records(file))
        if whole < self._end:  # an earlier life ended in the middle of a write, which was never answered for
            os.ftruncate(self._file, whole)
            self._end = whole

    def append(self, record: bytes) -> None:
        """Append one record, wholly or not at all.

        Raises:
            DatabaseFullError: no room is left on the disk.
        """
        frame = _HEAD.pack(len(record), zlib.crc32(record)) + record
        try:
            written = os.write(self._file, frame)
        except OSError as error:
            raise _translated(error) from None
        if written != len(frame):
            os.ftruncate(self._file, self._end)
            raise _translated(OSError(errno.ENOSPC, "short write"))
        self._end += written

    def seal(self) -> bool:
        """Take what was appended out of the file's way; false where there is nothing.

        Call it on the thread that appends.
        """
        if not self._sealed.exists():
            if not self._end:
                return False
            os.close(self._file)
            self._path.rename(self._sealed)
            self._open()
        return True

    def sealed(self, at_most: int, max_bytes: int) -> Iterator[list[bytes]]:
        """What was sealed, from the beginning again and again until `forget`.

        Args:
            at_most: so many records at a time.
            max_bytes: and no more bytes than that, where one record alone is not larger.
        """
        batch: list[bytes] = []
        size = 0
        with self._sealed.open("rb") as file:
            for record in _records(file):
                if batch and (len(batch) == at_most or size + len(record) > max_bytes):
                    yield batch
                    batch, size = [], 0
                batch.append(record)
                size += len(record)
        if batch:
            yield batch

    def forget(self) -> None:
        """Remove what was sealed: it is safe elsewhere."""
        self._sealed.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is in it waits for the next start."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._end = os.fstat(self._file).st_size


def _records(file: BinaryIO) -> Iterator[bytes]:
    """The whole records at the beginning of a file."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, checksum = _HEAD.unpack(head)
        record = file.read(length)
        if len(record) < length or zlib.crc32(record) != checksum:
            return
        yield record


def _translated(error: OSError) -> Exception:
    """Say a full disk in our own words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DatabaseFullError(
            "no space is left under the state folder; free some, then try again", retry_after_s=5.0
        )
    return error
