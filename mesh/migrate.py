"""Bringing a database to the newest schema with Alembic, at a service's start.

Alembic takes longer to import than most services have left of theirs, so it is only where there is something to do;
`mesh.revisions` does it then.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from mesh.db import DatabaseUnreadableError, address_of

__all__ = ["migrate"]

_DAMAGED = ("not a database", "malformed")
_REVISION = re.compile(r"^(down_)?revision(?:: [^=]+)? = (?:\"(\w+)\"|None)$", re.MULTILINE)


def migrate(engine: Engine, versions: Path, *, version_table: str = "alembic_version") -> None:
    """Run every migration in `versions` that the database has not seen, in one transaction.

    On PostgreSQL one process does so at a time, and whatever a migration says means what it means on SQLite: texts
    compare by code point, integers have 64 bits.

    Args:
        engine: the database.
        versions: a folder of Alembic revision files.
        version_table: where the database remembers its revision; one a set of migrations.

    Raises:
        DatabaseUnreadableError: it is damaged, no database at all, or made by a newer release.
    """
    where = address_of(engine.url) if engine.dialect.name == "postgresql" else engine.url.database
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # bringing in Alembic takes seconds on a busy machine
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            if _revision_of(connection, version_table) != _newest(versions):
                _to_newest(connection, versions, version_table, str(where))
    except DatabaseError as error:
        if not any(words in str(error.orig) for words in _DAMAGED):
            raise
        raise DatabaseUnreadableError(f"{where} cannot be read ({error.orig}); restore it from a backup") from error


def _newest(versions: Path) -> str:
    """The revision that no other one follows."""
    known: set[str] = set()
    followed: set[str] = set()
    for file in versions.glob("*.py"):
        for down, revision in _REVISION.findall(file.read_text()):
            (followed if down else known).add(revision)
    newest = known - followed
    return newest.pop() if len(newest) == 1 else "unknown; Alembic says what is wrong"


def _revision_of(connection: Connection, version_table: str) -> str:
    """The revision at which the database stands; empty before the first."""
    if not sqlalchemy.inspect(connection).has_table(version_table):
        return ""
    versions = sqlalchemy.table(version_table, sqlalchemy.column("version_num", sqlalchemy.String()))
    return str(connection.execute(sqlalchemy.select(versions.c.version_num)).scalar() or "")


def _to_newest(connection: Connection, versions: Path, version_table: str, where: str) -> None:
    from alembic.util import CommandError

    from mesh.revisions import NEWEST, Step, take

    try:
        take(connection, Step(versions, version_table, NEWEST))
    except CommandError as error:
        raise DatabaseUnreadableError(
            f"{where} was made by another release ({error}); start that release, or restore a backup of this one's"
        ) from error
