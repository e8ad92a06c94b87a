"""The spool's first page: a file to which the record of a call that changed nothing is appended before its answer goes.

One `write(2)` puts a record where the death of the process cannot take it (power loss can); no thread and no lock is
waited for. `mesh.record` folds the file into the spool table soon after and at every start.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

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
        whole = sum(_HEAD.size + len(record) for record in _records(self._path.read_bytes()))
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

    def seal(self) -> list[bytes]:
        """Take what was appended out of the file's way and return it; again and again until `forget`.

        Call it on the thread that appends.
        """
        if not self._sealed.exists():
            if not self._end:
                return []
            os.close(self._file)
            self._path.rename(self._sealed)
            self._open()
        return list(_records(self._sealed.read_bytes()))

    def forget(self) -> None:
        """Remove what `seal` returned: it is safe elsewhere."""
        self._sealed.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is in it waits for the next start."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._end = os.fstat(self._file).st_size


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records at the beginning of a file."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        record = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(record) < length or zlib.crc32(record) != checksum:
            return
        yield record
        at += _HEAD.size + length


def _translated(error: OSError) -> Exception:
    """Say a full disk in our own words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DatabaseFullError(
            "no space is left under the state folder; free some, then try again", retry_after_s=5.0
        )
    return error
