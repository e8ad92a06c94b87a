"""Bringing a database to the newest schema with Alembic, at a service's start."""

from __future__ import annotations

from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from mesh.db import DatabaseUnreadableError
from mesh.revisions import NEWEST, Step, place_of, take

__all__ = ["migrate"]

_DAMAGED = ("not a database", "malformed")


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
    where = place_of(engine)
    try:
        with engine.begin() as connection:
            take(connection, Step(versions, version_table, NEWEST))
    except CommandError as error:
        raise DatabaseUnreadableError(
            f"{where} was made by another release ({error}); start that release, or restore a backup of this one's"
        ) from error
    except DatabaseError as error:
        if not any(words in str(error.orig) for words in _DAMAGED):
            raise
        raise DatabaseUnreadableError(f"{where} cannot be read ({error.orig}); restore it from a backup") from error
