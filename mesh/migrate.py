"""Bringing a database to the newest schema with Alembic, at a service's start.

Alembic takes longer to import than most services have left of theirs, so it is only where there is something to do.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from mesh.db import DatabaseUnreadableError, address_of
from mesh.db.database import lock_key

__all__ = ["migrate"]

_DAMAGED = ("not a database", "malformed")
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
_REVISION = re.compile(r"^(down_)?revision(?:: [^=]+)? = (?:\"(\w+)\"|None)$", re.MULTILINE)
_NARROW = """
SELECT quote_ident(c.relname) FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
WHERE c.relnamespace = current_schema()::regnamespace AND s.seqtypid <> 'int8'::regtype ORDER BY 1"""


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
    on_postgres = engine.dialect.name == "postgresql"
    where = address_of(engine.url) if on_postgres else engine.url.database
    try:
        with engine.begin() as connection:
            if on_postgres:
                _be_alone(connection)
            if _revision_of(connection, version_table) != _newest(versions):
                _upgrade(connection, versions, version_table, str(where))
            if on_postgres:
                _mean_the_same(connection)
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


def _upgrade(connection: Connection, versions: Path, version_table: str, where: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseUnreadableError(
            f"{where} was made by another release ({error}); start that release, or restore a backup of this one's"
        ) from error


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
