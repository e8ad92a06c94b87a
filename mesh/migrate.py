"""Bringing a database to the newest schema with Alembic, at a service's start."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from mesh.db import DatabaseUnreadableError

__all__ = ["migrate"]

_DAMAGED = ("not a database", "malformed")
_ENVIRONMENT = Path(__file__).parent / "migrations"


def migrate(engine: Engine, versions: Path, *, version_table: str = "alembic_version") -> None:
    """Run every migration in `versions` that the database has not seen, in one transaction.

    Args:
        engine: the database.
        versions: a folder of Alembic revision files.
        version_table: where the database remembers its revision; one a set of migrations.

    Raises:
        DatabaseUnreadableError: it is damaged, no database at all, or made by a newer release.
    """
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    where = engine.url.database
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            config.attributes["version_table"] = version_table
            command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseUnreadableError(
            f"{where} was made by another release ({error}); start that release, or restore a backup of this one's"
        ) from error
    except DatabaseError as error:
        if not any(words in str(error.orig) for words in _DAMAGED):
            raise
        raise DatabaseUnreadableError(f"{where} cannot be read ({error.orig}); restore it from a backup") from error
