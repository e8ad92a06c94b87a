"""Where a database's schema stands, and bringing it to another revision, forward or back.

A service brings its own to the newest at its start: that is `mesh.migrate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from mesh.db import DatabaseUnreadableError
from mesh.errors import Code, TiationError

__all__ = ["MigrationError", "Revisions", "move", "revisions"]

_ENVIRONMENT = Path(__file__).parent / "migrations"


class MigrationError(TiationError):
    """A database cannot be brought to the schema that was asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "MIGRATION_IMPOSSIBLE"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Where a database stands: its revision, empty before the first, and the known ones, oldest first."""

    current: str
    known: tuple[str, ...]


def revisions(engine: Engine, versions: Path, *, version_table: str = "alembic_version") -> Revisions:
    """Where a database stands.

    Raises:
        DatabaseUnreadableError: it is damaged or no database at all.
    """
    scripts = ScriptDirectory.from_config(_config(versions))
    known = tuple(script.revision for script in reversed(list(scripts.walk_revisions())))
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": version_table})
            return Revisions(context.get_current_revision() or "", known)
    except DatabaseError as error:
        where = engine.url.database
        raise DatabaseUnreadableError(f"{where} cannot be read ({error.orig}); restore it from a backup") from error


def move(engine: Engine, versions: Path, target: str, *, version_table: str = "alembic_version") -> None:
    """Bring a database to a revision, older or newer, in one transaction: wholly or not at all.

    Args:
        engine: the database, which nobody else uses meanwhile.
        versions: a folder of Alembic revision files.
        target: one of the known revisions.
        version_table: where the database remembers its revision.

    Raises:
        MigrationError: the revision, or the one where the database stands, is not known.
    """
    at = revisions(engine, versions, version_table=version_table)
    if target not in at.known:
        raise MigrationError(f"there is no revision `{target}`; known are {', '.join(at.known)}", revision=target)
    if at.current and at.current not in at.known:
        raise MigrationError(
            f"{engine.url.database} stands at `{at.current}`, which this release does not know; use a newer release",
            revision=at.current,
        )
    older = at.current and at.known.index(target) < at.known.index(at.current)
    config = _config(versions)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table
        (command.downgrade if older else command.upgrade)(config, target)


def _config(versions: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    return config
