"""SQLite databases that are copied aside in the home before their schemas change, and put back from there."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cli.backup.contents import COPIES, is_database
from cli.backup.copying import copy_database, no_room_at, sync
from cli.backup.scratch import scratch
from cli.home import Home
from mesh.config import SERVICES
from mesh.errors import Code, TiationError

__all__ = ["CopiesUnusableError", "copy_aside", "put_back"]

_SIDECARS = ("-wal", "-shm", "-journal")


class CopiesUnusableError(TiationError):
    """A folder does not hold whole copies of databases."""

    code = Code.FAILED_PRECONDITION
    reason = "COPIES_UNUSABLE"


def copy_aside(home: Home, services: Sequence[str]) -> Path:
    """Copy databases aside, each as it is now, its journal with it; the folder appears when all are there.

    Raises:
        ArchiveError: a database is damaged.
        NoRoomError: there is none for the copies.
    """
    folder = home.path / f"{COPIES}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    with scratch(home.path) as made:
        for service in services:
            name = f"{service}/{service}.db"
            (made / service).mkdir(mode=0o700)
            copy_database(home.path, home.path / name, made / name, name)
            sync(made / name)
        made.rename(folder)
    sync(home.path)
    return folder


def put_back(home: Home, copies: Path) -> list[str]:
    """Have databases be again what their copies are; the caller holds the home, and nothing has them open.

    What is in a journal beside a database belongs to the database that goes: it goes first. If this is cut off, doing
    it again brings it to its end.

    Returns:
        The services whose databases were put back.

    Raises:
        CopiesUnusableError: there are no copies, or one is damaged.
        NoRoomError: there is none for another copy.
    """
    services = [service for service in SERVICES if (copies / service / f"{service}.db").exists()]
    if not services:
        raise CopiesUnusableError(f"{copies} holds no copies of databases")
    for service in services:
        _check(copies / service / f"{service}.db")
    with no_room_at(home.path), scratch(home.path) as folder:
        for service in services:
            shutil.copyfile(copies / service / f"{service}.db", folder / f"{service}.db")
            (folder / f"{service}.db").chmod(0o600)
            sync(folder / f"{service}.db")
        for service in services:
            target = home.path / service / f"{service}.db"
            for ending in _SIDECARS:
                target.with_name(f"{target.name}{ending}").unlink(missing_ok=True)
            sync(target.parent)
            (folder / target.name).rename(target)
            sync(target.parent)
    return services


def _check(copy: Path) -> None:
    said = "it is no database"
    if is_database(copy):
        try:
            with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
                said = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            said = str(error)
    if said != "ok":
        raise CopiesUnusableError(f"{copy} is damaged ({said}); nothing was put back", file=copy)
