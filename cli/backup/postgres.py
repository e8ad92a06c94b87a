"""The part of a backup that lies in PostgreSQL: every service's schema, all as they were at one moment.

A table goes into the archive as what COPY says, in pieces, with its rows counted and their hashes added up: rows have
no order. It comes back into tables that this release's migrations make, at the revisions that were backed up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from cli.backup.contents import POSTGRES
from cli.schemas import migration_sets
from mesh.config import SERVICES
from mesh.db import address_of, await_database, open_database, postgres_url
from mesh.errors import Code, TiationError
from mesh.revisions import MigrationError, Step, known_revisions, take

__all__ = ["CONTENTS", "FOLDER", "Contents", "DatabaseNotEmptyError", "PostgresError", "check", "dump", "loading"]

FOLDER = POSTGRES
CONTENTS = f"{FOLDER}/contents.json"
_PIECE_BYTES = 4 * 1024 * 1024
_PATIENCE_S = 10.0
_VERSION_TABLES = ("mesh_version", "alembic_version")
_SESSION = {
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "client_encoding": "'UTF8'",
    "extra_float_digits": "1",
    "bytea_output": "'hex'",
}
_TABLES = """
SELECT c.relname, coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL), '{}')
FROM pg_class c LEFT JOIN pg_attribute a
  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
GROUP BY c.relname ORDER BY c.relname"""
_SEQUENCES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind = 'S' ORDER BY 1"""
_OCCUPIED = """
SELECT DISTINCT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) ORDER BY 1"""


class PostgresError(TiationError):
    """PostgreSQL refused a part of a backup, or what came back is not what was saved."""

    code = Code.DATA_LOSS
    reason = "BACKUP_UNUSABLE"


class DatabaseNotEmptyError(TiationError):
    """A backup goes into an empty database only."""

    code = Code.FAILED_PRECONDITION
    reason = "DATABASE_NOT_EMPTY"


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was saved: its columns in the order of the copy, how many rows, and the sum of their hashes."""

    schema: str
    name: str
    columns: list[str]
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Where a sequence stood."""

    schema: str
    name: str
    last_value: int
    is_called: bool


@dataclass(slots=True)
class Contents:
    """What of PostgreSQL is in a backup.

    Attributes:
        revisions: by schema, the revision that each version table names.
        tables: with their figures.
        sequences: so that no number is given twice.
    """

    revisions: dict[str, dict[str, str]]
    tables: list[Table]
    sequences: list[Sequence]

    @classmethod
    def read(cls, data: bytes) -> Contents:
        """From the archive's member.

        Raises:
            PostgresError: it is none of ours.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError:
            raise PostgresError(f"the backup's {CONTENTS} cannot be read; it was not made here") from None


class _Rows:
    """Counts rows of COPY's text format and adds up their hashes, in whatever order they come."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.count += len(lines)
        for line in lines:
            self._sum += int.from_bytes(hashlib.sha256(line).digest()[:16], "big")

    @property
    def digest(self) -> str:
        return f"{self._sum % 2**128:032x}"


def dump(location: str, add: Callable[[str, bytes], None], say: Callable[[str], None]) -> None:
    """Hand every piece of every schema to `add`, as all of them were at one moment.

    Args:
        location: the database's URL.
        add: takes a member's name and what is in it.
        say: told of every schema.

    Raises:
        PostgresError: the server refused something meanwhile.
        DatabaseUnavailableError: it does not answer.
    """
    contents = Contents({}, [], [])
    with _connected(location, say, isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
        for schema in SERVICES:
            tables = {name: list(columns) for name, columns in connection.exec_driver_sql(_TABLES, (schema,))}
            if not tables:
                continue
            say(f"  copying schema {schema}")
            contents.revisions[schema] = {
                table: str(connection.exec_driver_sql(f"SELECT version_num FROM {_name(schema, table)}").scalar_one())  # noqa: S608 -- quoted
                for table in _VERSION_TABLES
                if table in tables
            }
            for name, columns in tables.items():
                if name not in _VERSION_TABLES:
                    contents.tables.append(_dump_table(connection, schema, name, columns, add))
            for (name,) in connection.exec_driver_sql(_SEQUENCES, (schema,)).all():
                at = f"SELECT last_value, is_called FROM {_name(schema, name)}"  # noqa: S608 -- quoted
                last, called = connection.exec_driver_sql(at).one()
                contents.sequences.append(Sequence(schema, name, int(last), bool(called)))
    add(CONTENTS, msgspec.json.format(msgspec.json.encode(contents), indent=1))


def check(contents: Contents) -> None:
    """Refuse what this release could not restore.

    Raises:
        MigrationError: a schema is at a revision that it does not know.
        PostgresError: there is a schema of no service.
    """
    for schema, revisions in contents.revisions.items():
        if schema not in SERVICES:
            raise PostgresError(f"the backup holds schema {schema!r}, which is no service's; it was not made here")
        for name, versions, table in migration_sets(schema):
            wanted = revisions.get(table)
            if wanted is not None and wanted not in known_revisions(versions):
                raise MigrationError(
                    f"the backup holds {name} at `{wanted}`, which this release does not know: a newer one made it; "
                    "restore it with that one",
                    revision=wanted,
                )
    named = {table.schema for table in contents.tables} | {sequence.schema for sequence in contents.sequences}
    if stray := named - set(contents.revisions):
        raise PostgresError(f"the backup holds schema {min(stray)!r} without its revision; it was not made here")


@contextmanager
def loading(location: str, folder: Path, contents: Contents, say: Callable[[str], None]) -> Iterator[None]:
    """Bring every schema back; it is kept when the `with` block ends well, and none of it otherwise.

    Args:
        location: the URL of a database in which no service has tables.
        folder: where the archive's members are.
        contents: what they are.
        say: told of every schema.

    Raises:
        DatabaseNotEmptyError: there are tables.
        PostgresError: what came back is not what was saved, or the server refused something.
    """
    address = address_of(postgres_url(location))
    with _connected(location, say) as connection:
        occupied = connection.exec_driver_sql(_OCCUPIED, (list(SERVICES),)).scalars().all()
        if occupied:
            raise DatabaseNotEmptyError(
                f"the database {address} is not empty (schema {', '.join(occupied)}); make another one and name it in "
                "TIATION_DATABASE, or in a tiation.yaml that you put in the home before"
            )
        for schema, revisions in contents.revisions.items():
            say(f"  restoring schema {schema}")
            _make(connection, schema, revisions)
        kept = [table for table in contents.tables if _load(connection, table, folder, say)]
        for each in contents.sequences:
            connection.exec_driver_sql(
                "SELECT setval(to_regclass(%s), %s, %s)",
                (_name(each.schema, each.name), each.last_value, each.is_called),
            )
        for table in kept:
            found = _dump_table(connection, table.schema, table.name, table.columns, lambda _name, _data: None)
            if found != table:
                raise PostgresError(f"{table.schema}.{table.name} is not what was saved; take another backup")
        yield


def _make(connection: Connection, schema: str, revisions: dict[str, str]) -> None:
    """Make a schema and its tables."""
    connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    connection.exec_driver_sql(f'SET LOCAL search_path = "{schema}"')
    for _, versions, table in migration_sets(schema):
        if table in revisions:
            take(connection, Step(versions, table, revisions[table]))


def _load(connection: Connection, table: Table, folder: Path, say: Callable[[str], None]) -> bool:
    """Fill a table; false for one that no migration makes."""
    made = {name: list(columns) for name, columns in connection.exec_driver_sql(_TABLES, (table.schema,))}
    if table.name not in made:
        say(f"  leaving out {table.schema}.{table.name}, which is none of the platform's")
        return False
    if sorted(made[table.name]) != sorted(table.columns):
        raise PostgresError(f"{table.schema}.{table.name} has other columns in the backup; it was not made here")
    target = _name(table.schema, table.name)
    connection.exec_driver_sql(f"DELETE FROM {target}")  # noqa: S608 -- quoted; what the migrations put there
    with _cursor(connection) as cursor, cursor.copy(f"COPY {target} ({_list(table.columns)}) FROM STDIN") as copy:
        for piece in sorted((folder / _folder(table.schema, table.name)).glob("*.copy")):
            copy.write(piece.read_bytes())
    return True


def _dump_table(
    connection: Connection, schema: str, name: str, columns: list[str], add: Callable[[str, bytes], None]
) -> Table:
    """Hand a table to `add` in pieces; returns its figures."""
    rows, piece, number = _Rows(), bytearray(), 0

    def flush() -> None:
        nonlocal number
        if piece:
            number += 1
            rows.feed(bytes(piece))
            add(f"{_folder(schema, name)}/{number:08}.copy", bytes(piece))
            piece.clear()

    statement = f"COPY {_name(schema, name)} ({_list(columns)}) TO STDOUT"
    with _cursor(connection) as cursor, cursor.copy(statement) as copy:
        for data in copy:
            piece += data
            if len(piece) >= _PIECE_BYTES:
                flush()
    flush()
    return Table(schema, name, columns, rows.count, rows.digest)


@contextmanager
def _connected(location: str, say: Callable[[str], None], **options: Any) -> Iterator[Connection]:  # noqa: ANN401 -- SQLAlchemy's
    """A transaction that may last, committed at the end; what the server refuses is told without what is in rows."""
    await_database(location, say, patience_s=_PATIENCE_S)
    database = open_database(location)
    try:
        with database.engine.connect().execution_options(**options) as connection, connection.begin():
            for name, value in _SESSION.items():
                connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
            yield connection
    except DBAPIError as error:
        raise _refused(location, error.orig) from None
    finally:
        asyncio.run(database.close())


@contextmanager
def _cursor(connection: Connection) -> Iterator[Any]:
    """The driver's own cursor, for COPY."""
    import psycopg

    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor:
            yield cursor
    except psycopg.Error as error:
        raise _refused(connection.engine.url.render_as_string(hide_password=False), error) from None


def _refused(location: str, error: object) -> PostgresError:
    told = getattr(getattr(error, "diag", None), "message_primary", None) or type(error).__name__
    return PostgresError(f"the database {address_of(postgres_url(location))} refused it ({told}); nothing was kept")


def _folder(schema: str, name: str) -> str:
    return f"{FOLDER}/{schema}/{quote(name, safe='')}"


def _name(schema: str, name: str) -> str:
    return f"{_quoted(schema)}.{_quoted(name)}"


def _list(columns: list[str]) -> str:
    return ", ".join(_quoted(column) for column in columns)


def _quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
