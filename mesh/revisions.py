"""Where a database's schema stands, and bringing it to another revision, forward or back.

A service brings its own to the newest at its start: that is `mesh.migrate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from mesh.db import DatabaseUnreadableError, address_of
from mesh.db.database import lock_key
from mesh.errors import Code, TiationError

__all__ = [
    "NEWEST",
    "NOTHING",
    "MigrationError",
    "Revisions",
    "Step",
    "known_revisions",
    "move",
    "place_of",
    "revisions",
    "take",
]

NEWEST = "head"
NOTHING = "base"
"""Before the first revision: no table is left."""
_ENVIRONMENT = Path(__file__).parent / "migrations"
_UNLIKE = """
SELECT quote_ident(c.relname), quote_ident(a.attname),
       CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype) THEN 'bigint'
            ELSE format_type(a.atttypid, a.atttypmod) || ' COLLATE "C"' END
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.atttypid IN ('int2'::regtype, 'int4'::regtype)
       OR (a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
           AND a.attcollation <> 'pg_catalog."C"'::regcollation))
ORDER BY 1, a.attnum"""
"""Columns that mean something else than they do on SQLite, and the type that makes them mean the same."""
_NARROW = """
SELECT quote_ident(c.relname) FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
WHERE c.relnamespace = current_schema()::regnamespace AND s.seqtypid <> 'int8'::regtype ORDER BY 1"""


class MigrationError(TiationError):
    """A database cannot be brought to the schema that was asked for."""

    code = Code.FAILED_PRECONDITION
    reason = "MIGRATION_IMPOSSIBLE"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Where a database stands: its revision, empty before the first, and the known ones, oldest first."""

    current: str
    known: tuple[str, ...]

    @property
    def is_of_newer_release(self) -> bool:
        """Whether this release does not know where the database stands."""
        return bool(self.current) and self.current not in self.known

    def is_back(self, target: str) -> bool:
        """Whether a revision is older than the one where the database stands."""
        if target in (NEWEST, NOTHING):
            return target == NOTHING
        return bool(self.current) and self.known.index(target) < self.known.index(self.current)


@dataclass(frozen=True, slots=True)
class Step:
    """One set of migrations brought to one of its revisions.

    Attributes:
        versions: a folder of Alembic revision files.
        version_table: where the database remembers the set's revision.
        target: a revision, `NEWEST` or `NOTHING`.
        back: whether it is older than what the database has.
    """

    versions: Path
    version_table: str
    target: str
    back: bool = False


def place_of(engine: Engine) -> str:
    """Which database it is, as people read it, without user and password."""
    return address_of(engine.url) if engine.dialect.name == "postgresql" else str(engine.url.database)


def known_revisions(versions: Path) -> tuple[str, ...]:
    """The revisions that this release has files for, oldest first."""
    scripts = ScriptDirectory.from_config(_config(versions))
    return tuple(script.revision for script in reversed(list(scripts.walk_revisions())))


def revisions(engine: Engine, versions: Path, *, version_table: str = "alembic_version") -> Revisions:
    """Where a database stands.

    Raises:
        DatabaseUnreadableError: it is damaged or no database at all.
    """
    known = known_revisions(versions)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": version_table})
            return Revisions(context.get_current_revision() or "", known)
    except DatabaseError as error:
        raise DatabaseUnreadableError(
            f"{place_of(engine)} cannot be read ({error.orig}); restore it from a backup"
        ) from error


def move(engine: Engine, targets: Sequence[tuple[Path, str, str]]) -> None:
    """Bring sets of migrations of one database to other revisions, in one transaction: wholly or not at all.

    Args:
        engine: the database, which nobody else uses meanwhile.
        targets: of each set its folder, its version table and the revision wanted.

    Raises:
        MigrationError: a revision, or the one where the database stands, is not known.
        DatabaseUnreadableError: the database is damaged or no database at all.
    """
    steps = []
    for versions, table, target in targets:
        at = revisions(engine, versions, version_table=table)
        if target not in (*at.known, NEWEST, NOTHING):
            raise MigrationError(f"there is no revision `{target}`; known are {', '.join(at.known)}", revision=target)
        if at.is_of_newer_release:
            raise MigrationError(
                f"{place_of(engine)} stands at `{at.current}`, which this release does not know: a newer one made it; "
                "use that one, or restore a backup of this one's",
                revision=at.current,
            )
        steps.append(Step(versions, table, target, at.is_back(target)))
    with engine.begin() as connection:
        for step in steps:
            take(connection, step)


def take(connection: Connection, step: Step) -> None:
    """Take one step inside the caller's transaction.

    On PostgreSQL it waits until no other process migrates the schema, and in the end every column means what it means
    on SQLite.
    """
    config = _config(step.versions)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = step.version_table
    on_postgres = connection.dialect.name == "postgresql"
    if on_postgres:
        _be_alone(connection)
    (command.downgrade if step.back else command.upgrade)(config, step.target)
    if on_postgres:
        _mean_the_same(connection)


def _config(versions: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    return config


def _be_alone(connection: Connection) -> None:
    """Wait, as long as it takes, until no other process migrates the schema; neither may it be cut short itself."""
    for limit in ("lock_timeout", "idle_in_transaction_session_timeout"):
        connection.exec_driver_sql(f"SET LOCAL {limit} = 0")
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock_key('migrate', str(schema))})")


def _mean_the_same(connection: Connection) -> None:
    """Give every column the meaning that it has on SQLite."""
    changes: dict[str, list[str]] = {}
    for table, column, kind in connection.exec_driver_sql(_UNLIKE):
        changes.setdefault(table, []).append(f"ALTER COLUMN {column} TYPE {kind}")
    for table, actions in changes.items():
        connection.exec_driver_sql(f"ALTER TABLE {table} {', '.join(actions)}")
    for (sequence,) in connection.exec_driver_sql(_NARROW).all():
        connection.exec_driver_sql(f"ALTER SEQUENCE {sequence} AS bigint")
