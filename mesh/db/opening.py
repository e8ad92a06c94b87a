"""Opening a database: a SQLite file, or a schema of a PostgreSQL database that is waited for and made ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from mesh.db.database import Database, lock_key
from mesh.db.faults import DatabaseRefusedError, DatabaseUnavailableError, Fault, fault_of, said
from mesh.db.location import address_of, postgres_url

__all__ = ["await_database", "open_database"]

_OLDEST = 150000
"""PostgreSQL 15, as the server counts."""
_CONNECT_S = 3
_SESSION = {
    # A process that is stopped in the middle of a write must not keep the others from writing.
    "idle_in_transaction_session_timeout": "3s",
    "lock_timeout": "10s",
    "timezone": "UTC",
    "client_min_messages": "warning",
}
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
_NEVER = (
    "password authentication failed",
    "pg_hba.conf",
    "does not exist",
    "permission denied",
    "certificate",
)
"""What the server says when waiting is of no use."""


def open_database(location: str, *, schema: str = "") -> Database:
    """Open a database.

    Args:
        location: `sqlite:///FILE`, made with mode 0600 inside an existing folder; or a PostgreSQL URL.
        schema: on PostgreSQL, where the service's tables are.

    Raises:
        DatabaseUrlError: the URL is none that can be used.
    """
    if location.startswith("sqlite"):
        return Database(_sqlite(location))
    return Database(_postgres(location, schema), schema=schema)


def await_database(location: str, say: Callable[[str], None], *, schema: str = "", patience_s: float = 30.0) -> None:
    """Wait until PostgreSQL answers, see that it can be used, and make the schema if there is none.

    Args:
        location: its URL; for SQLite nothing is to be waited for.
        say: told now and then what is waited for.
        schema: the service's own; empty to leave it at looking.
        patience_s: how long to wait.

    Raises:
        DatabaseUnavailableError: it did not answer in time.
        DatabaseRefusedError: it does not let us in, or cannot be used.
        DatabaseUrlError: the URL is none that can be used.
    """
    if location.startswith("sqlite"):
        return
    engine = _postgres(location, schema)
    try:
        _wait(engine, say, patience_s)
        with _refused_clearly(engine), engine.begin() as connection:
            _check(connection, address_of(engine.url))
            if schema:
                _make_schema(connection, schema)
    finally:
        engine.dispose()


def _wait(engine: Engine, say: Callable[[str], None], patience_s: float) -> None:
    address, began, told = address_of(engine.url), time.monotonic(), 0.0
    while True:
        try:
            engine.connect().close()
        except DBAPIError as error:
            text, now = said(error), time.monotonic()
            if fault_of(error) is not Fault.LOST or any(words in text for words in _NEVER):
                raise _refusal(text, address) from None
            if now - began > patience_s:
                raise DatabaseUnavailableError(
                    f"the database {address} does not answer ({text[:300]}); start PostgreSQL there, or correct "
                    "`database` in tiation.yaml or TIATION_DATABASE",
                    retry_after_s=5.0,
                ) from None
            if now - told > 5.0:
                say(f"waiting for the database {address}")
                told = now
            time.sleep(0.2)
        else:
            return


@contextmanager
def _refused_clearly(engine: Engine) -> Iterator[None]:
    """Say what the server refuses in words that help."""
    try:
        yield
    except DBAPIError as error:
        raise _refusal(said(error), address_of(engine.url)) from None


def _refusal(text: str, address: str) -> DatabaseRefusedError:
    if "password authentication failed" in text or "pg_hba" in text:
        advice = "check user and password in `database`"
    elif "database" in text and "does not exist" in text:
        advice = "create it: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    elif "permission denied" in text:
        advice = "the user needs CREATE on the database: GRANT CREATE ON DATABASE … TO …"
    else:
        advice = "see the server's log"
    return DatabaseRefusedError(f"the database {address} cannot be used ({text[:300]}); {advice}")


def _check(connection: Connection, address: str) -> None:
    version, encoding, readonly = connection.exec_driver_sql(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery()"
    ).one()
    if version < _OLDEST:
        raise DatabaseRefusedError(f"the database {address} is PostgreSQL {version // 10000}; 15 or newer is needed")
    if encoding != "UTF8":
        raise DatabaseRefusedError(
            f"the database {address} keeps text as {encoding}; make one with CREATE DATABASE … ENCODING 'UTF8' "
            "TEMPLATE template0"
        )
    if readonly:
        raise DatabaseRefusedError(f"the database {address} is a standby, which takes no writes; name the primary")


def _make_schema(connection: Connection, schema: str) -> None:
    """Make the schema unless it is there; two processes that start at once do not get in each other's way."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock_key('schema', schema)})")
    found = connection.exec_driver_sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).scalar()
    if not found:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')


def _postgres(location: str, schema: str) -> Engine:
    url = postgres_url(location)
    given = url.query.get("options", "")
    session = {**_SESSION, **({"search_path": f'"{schema}"'} if schema else {})}
    options = " ".join([str(given), *(f"-c {name}={value}" for name, value in session.items())]).strip()
    engine = create_engine(
        url.difference_update_query(["options"]),
        isolation_level="READ COMMITTED",
        pool_size=8,
        hide_parameters=True,
        connect_args={
            "options": options,
            "application_name": f"tiation {schema}".strip(),
            "connect_timeout": _CONNECT_S,
            **_KEEPALIVE,
        },
    )
    engine.dialect.use_insertmanyvalues_wo_returning = True  # many rows go in one statement, one way to the server
    return engine


def _sqlite(location: str) -> Engine:
    path = Path(location.removeprefix("sqlite:///"))
    if location != "sqlite://" and not path.exists():
        path.touch(mode=0o600)
    engine = create_engine(location, connect_args={"check_same_thread": False, "timeout": 10.0}, pool_size=8)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:  # noqa: ANN401 -- the driver's own types
        connection.isolation_level = None  # SQLAlchemy's hook below says BEGIN, the driver does not
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = threading.current_thread().name == "db-write"
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
