"""Bringing a database to the newest schema with Alembic, at a service's start."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

__all__ = ["migrate"]

_ENVIRONMENT = Path(__file__).parent / "migrations"


def migrate(engine: Engine, versions: Path, *, version_table: str = "alembic_version") -> None:
    """Run every migration in `versions` that the database has not seen, in one transaction.

    Args:
        engine: the database.
        versions: a folder of Alembic revision files.
        version_table: where the database remembers its revision; one a set of migrations.
    """
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table
        command.upgrade(config, "head")
