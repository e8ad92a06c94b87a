"""What the `sql` connector does differently on PostgreSQL: effects kept single, statements stopped, errors understood.

What a tenant's statements may do there is up to the database user that the connection names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from integration.adapters.sqlite_place import EFFECTS_TABLE
from integration.errors import CallTimeoutError, IntegrationError, SystemRefusedError, SystemUnavailableError

__all__ = ["ARGUMENTS", "begin", "cancel", "check_statement", "streamed", "take_effect_key", "translated"]

ARGUMENTS = {
    "prepare_threshold": 0,  # a prepared statement is one statement, never several
    "connect_timeout": 5,
    "application_name": "tiation integration",
    "passfile": "/dev/null/none",  # passwords of the service's own user are for nobody else
}
_CANCEL_S = 2.0
_PASSING = ("08", "53", "57P")
"""Classes of errors that pass: connections, resources, a server that restarts."""
_CONFLICTS = ("40001", "40P01", "55P03")
_REFUSED = ("authentication failed", "pg_hba.conf", "does not exist")
_SILENT = re.compile(
    r"\s*(insert|update|delete|merge|create|alter|drop|truncate|grant|revoke|comment)\b", re.IGNORECASE
)
"""Statements that return no rows unless they say `RETURNING`."""


def check_statement(statement: str) -> None:
    """Refuse a statement about what keeps effects single.

    Raises:
        SystemRefusedError: it names that table.
    """
    if EFFECTS_TABLE in statement.lower():
        raise SystemRefusedError(f"the statement touches {EFFECTS_TABLE}, which is not allowed")


def begin(connection: Connection, timeout_s: float) -> None:
    """Have the server stop the statement by itself, should nobody be left to do so."""
    connection.execute(
        text("SELECT set_config('statement_timeout', :ms, true)"), {"ms": str(int(timeout_s * 1000) + 500)}
    )


def take_effect_key(connection: Connection, key: str, create: str) -> None:
    """Wait until nobody else is at the same effect, and make the table of effects where there is none."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": EFFECTS_TABLE}).scalar() is None:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 1))"), {"name": EFFECTS_TABLE})
        connection.exec_driver_sql(create)


def streamed(
    connection: Connection,
    driver: Any,  # noqa: ANN401 -- the driver's own
    statement: str,
    parameters: Mapping[str, object],
    read: Callable[[Iterable[Mapping[str, Any]]], dict[str, object]],
) -> dict[str, object] | None:
    """What is read of a statement's rows, which come one at a time and never all at once.

    Args:
        connection: in a transaction.
        driver: its psycopg connection.
        statement: with named parameters.
        parameters: by name.
        read: takes as many rows as it wants.

    Returns:
        None where the statement returns no rows; it has not happened then.

    Raises:
        DBAPIError: as `Connection.execute` raises.
        IntegrationError: as `read` raises.
    """
    if _SILENT.match(statement) and "returning" not in statement.lower():
        return None
    compiled = text(statement).compile(dialect=connection.dialect)
    with connection.begin_nested() as before, driver.cursor(row_factory=_named) as cursor:
        try:
            with closing(cursor.stream(str(compiled), compiled.construct_params(dict(parameters)))) as rows:
                return read(rows)
        except connection.dialect.loaded_dbapi.Error as error:
            if "didn't produce a result" in str(error) and error.sqlstate is None:
                before.rollback()
                return None
            raise _as_of_execute(connection, driver, statement, error) from None


def _as_of_execute(connection: Connection, driver: Any, statement: str, error: Exception) -> BaseException:  # noqa: ANN401 -- the driver's own
    """A driver's error as `Connection.execute` would raise it; a connection that is lost is known to be."""
    dialect, lost = connection.dialect, bool(driver.closed)
    if lost:
        connection.invalidate(error)
    return DBAPIError.instance(
        statement, None, error, dialect.loaded_dbapi.Error, connection_invalidated=lost, dialect=dialect
    )


def _named(cursor: Any) -> Callable[[Iterable[Any]], dict[str, Any]]:  # noqa: ANN401 -- the driver's own
    """Rows by the names of their columns."""
    names = [column.name for column in cursor.description or ()]
    return lambda values: dict(zip(names, values, strict=True))


def cancel(driver: Any) -> None:  # noqa: ANN401 -- the driver's own
    """Stop what a connection is doing, on the server."""
    driver.cancel_safe(timeout=_CANCEL_S)


def translated(error: DBAPIError) -> IntegrationError:
    """PostgreSQL's error in our words, and whether another attempt may help."""
    said = " ".join(str(error.orig).split())
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == "57014":
        return CallTimeoutError("the statement was stopped")
    unreached = not state and isinstance(error, OperationalError) and not any(words in said for words in _REFUSED)
    if error.connection_invalidated or unreached or state.startswith(_PASSING) or state in _CONFLICTS:
        refused = SystemUnavailableError(f"the database is not available: {said}")
        refused.outcome_known = not error.connection_invalidated
        return refused
    return SystemRefusedError(f"the database refused it: {said}")
