"""Copying one SQLite database as it is at one moment, and saying what is in the way: its own state, or want of room."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mesh.errors import Code, TiationError

__all__ = ["ArchiveError", "CopyError", "NoRoomError", "copy_database", "no_room_at", "sync"]

_SPARE_BYTES = 1024 * 1024
"""What a copy takes besides the database itself: a journal, the index of one."""
_PATIENCE_S = 30.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ArchiveError(TiationError):
    """A backup cannot be written, or is none, or is damaged, or is for somebody else."""

    code = Code.DATA_LOSS
    reason = "BACKUP_UNUSABLE"


class CopyError(TiationError):
    """A database cannot be copied now; nothing says that it is damaged."""

    code = Code.UNAVAILABLE
    reason = "DATABASE_NOT_COPIED"


class NoRoomError(TiationError):
    """A disk is full."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"


@contextmanager
def no_room_at(place: Path) -> Iterator[None]:
    """Say of a full disk which one it is.

    Raises:
        NoRoomError: the block ended because there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(place) from error
        raise


def copy_database(home: Path, path: Path, copy: Path, name: str) -> None:
    """Copy a database and check the copy.

    Args:
        home: in which the copy is made.
        path: the database; others may be writing to it.
        copy: the file to be.
        name: what people call the database.

    Raises:
        ArchiveError: it is damaged.
        CopyError: it is locked, or a disk does not work.
        NoRoomError: there is none for the copy.
        FileNotFoundError: it is gone.
    """
    size = path.stat().st_size
    try:
        with no_room_at(home):
            copy.touch(mode=0o600)
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as made,
        ):
            source.backup(made, progress=_patience(name))
            found = made.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise _told(error, home, path, name, size) from error
    if found != "ok":
        raise _damaged(name, found)


def _patience(name: str) -> Callable[[int, int, int], None]:
    """Gives up on a database that somebody keeps locked; SQLite alone would wait for ever."""
    deadline = time.monotonic() + _PATIENCE_S

    def waited(state: int, _remaining: int, _total: int) -> None:
        if state in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise CopyError(f"{name} is kept locked by another program; end that, then try again", file=name)

    return waited


def _told(error: sqlite3.DatabaseError, home: Path, path: Path, name: str, size: int) -> TiationError:
    """What kept a database from being copied, for whoever has to see to it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(name, str(error))
    if code == sqlite3.SQLITE_FULL:
        return _no_room(home)
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        for place, wanted in ((home, size + _SPARE_BYTES), (path.parent, _SPARE_BYTES)):
            if shutil.disk_usage(place).free < wanted:
                return _no_room(place)
    return CopyError(
        f"{name} cannot be copied now ({error}); see that {path.parent} and {home} can be written to, then try again",
        file=name,
    )


def _damaged(name: str, said: str) -> ArchiveError:
    return ArchiveError(f"{name} is damaged ({said}); restore it from an earlier backup", file=name)


def _no_room(place: Path) -> NoRoomError:
    return NoRoomError(f"no room is left in {place}; free some, then try again", folder=place)


def sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
