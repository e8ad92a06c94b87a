"""Where a SQLite connection may go, and what its statements may do there.

A tenant's statements reach one database file inside the folder that the operator allowed that tenant, and nothing else.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from integration.errors import LocationForbiddenError, SystemUnavailableError

__all__ = ["EFFECTS_TABLE", "MAX_VALUE_BYTES", "confine", "folder_of", "open_sqlite", "release", "resolve_inside"]

EFFECTS_TABLE = "tiation_effects"
MAX_VALUE_BYTES = 4 * 1024 * 1024
_TENANTS = ".tenants"
_FIRST = "default"
_BUSY_S = 5.0
_LOCKED_S = 0.01
_DENIED = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA}
_DENIED_FUNCTIONS = {"load_extension", "readfile", "writefile", "fts3_tokenizer"}


def folder_of(folder: Path, tenant: str) -> Path:
    """Where a tenant's databases are: the folder itself for the first tenant, `.tenants/{tenant}` in it for any other.

    Args:
        folder: what the operator allowed.
        tenant: the tenant's id.
    """
    return folder if tenant == _FIRST else folder / _TENANTS / tenant


def resolve_inside(folder: Path, location: str) -> Path:
    """The file that a URL's path means.

    Args:
        folder: the tenant's, of `folder_of`.
        location: relative to it, or absolute and inside it.

    Raises:
        LocationForbiddenError: it lies outside, by `..`, by a link or plainly, or is no plain file name, or a name on
            the way begins with a dot, as other tenants' folder does.
    """
    if not location or location.startswith("file:") or location == ":memory:" or "\0" in location:
        raise LocationForbiddenError("config.url must name a database file, for example sqlite:///crm.db")
    root = folder.resolve()
    path = (root / location).resolve()
    if not path.is_relative_to(root) or path == root:
        raise LocationForbiddenError(
            "config.url leads outside the folder that the operator allowed (integration.sqlite_folder)", url=location
        )
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        raise LocationForbiddenError("config.url must not hold a name that begins with a dot", url=location)
    if path.exists() and (not path.is_file() or path.stat().st_nlink > 1):
        raise LocationForbiddenError("config.url must name a plain database file", url=location)
    return path


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open an existing database for statements that are not ours.

    Raises:
        SystemUnavailableError: there is no such database.
    """
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, check_same_thread=False, isolation_level=None
        )
    except sqlite3.OperationalError:
        raise SystemUnavailableError(
            f"there is no database {path.name} in the allowed folder {path.parent}; put it there, or have the operator "
            "allow another folder (integration.sqlite_folder)",
            database=path.name,
        ) from None
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have it keep a write-ahead log. SQLite does not wait for others by itself where that is a change."""
    ends = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends:
                raise
            time.sleep(_LOCKED_S)
        else:
            return


def confine(connection: sqlite3.Connection) -> None:
    """Have SQLite refuse what would leave the database, or touch the table of effects."""

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        touches_effects = EFFECTS_TABLE in (first, second)
        forbidden = action in _DENIED or (action == sqlite3.SQLITE_FUNCTION and second in _DENIED_FUNCTIONS)
        return sqlite3.SQLITE_DENY if forbidden or touches_effects else sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)


def release(connection: sqlite3.Connection) -> None:
    """Lift the confinement for our own statements."""
    connection.set_authorizer(None)
