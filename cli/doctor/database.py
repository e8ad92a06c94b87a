"""The services' databases: PostgreSQL where the settings name one, the schemas, the records that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli.doctor.finding import Finding, bad, good, unsure
from cli.home import Home
from mesh.config import SERVICES, Settings
from mesh.errors import TiationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["look_at_databases"]

_PATIENCE_S = 3.0
_MOST_SKEW_S = 2.0
_MANY_WAITING = 10_000


def look_at_databases(home: Home, settings: Settings) -> Iterator[Finding]:
    """Everything that the databases themselves say, whether or not the platform runs."""
    if not (home.path / "security").is_dir() and not settings.database:
        return
    if settings.engine.cache_redis:
        yield _redis(settings.engine.cache_redis)
    if settings.database:
        findings, answers = _postgres(settings.database)
        yield from findings
        if not answers:
            return
    yield from _schemas(home, settings)


def _redis(url: str) -> Finding:
    """Whether the cache of answers can be used; every request goes on without it."""
    import redis

    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=_PATIENCE_S, socket_timeout=_PATIENCE_S)
    except ValueError:  # its text quotes the URL, a password with it
        return bad("Redis", "engine.cache_redis is no URL of Redis's", "write redis://HOST:PORT/NUMBER")
    known = client.connection_pool.connection_kwargs
    where = f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
    try:
        with client:
            client.ping()
    except redis.AuthenticationError:
        return unsure("Redis", f"{where} does not take the password", "correct engine.cache_redis; no answer is kept")
    except (redis.RedisError, OSError) as error:
        return unsure(
            "Redis", f"{where} does not answer ({type(error).__name__})",
            "see to it, or take engine.cache_redis away; requests are answered, and no answer is kept meanwhile",
        )  # fmt: skip
    return good("Redis", f"{where} answers")


def _postgres(location: str) -> tuple[list[Finding], bool]:
    """Whether the database can be used; version and encoding are looked at as a service does at its start."""
    from sqlalchemy.exc import SQLAlchemyError

    from mesh.db import address_of, await_database, open_database, postgres_url

    try:
        await_database(location, lambda _: None, patience_s=_PATIENCE_S)
    except TiationError as error:
        return [bad("PostgreSQL", error.message, "until then no service starts")], False
    database = open_database(location)
    try:
        with database.engine.connect() as connection:
            return list(_asked(connection, address_of(postgres_url(location)))), True
    except SQLAlchemyError as error:
        return [bad("PostgreSQL", f"it refused a question ({type(error).__name__})", "see the server's log")], False
    finally:
        asyncio.run(database.close())


def _asked(connection: Connection, address: str) -> Iterator[Finding]:
    version, may_create = connection.exec_driver_sql(
        "SELECT current_setting('server_version'), has_database_privilege(current_database(), 'CREATE')"
    ).one()
    rows = connection.exec_driver_sql(
        "SELECT nspname::text, has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE') "
        "FROM pg_namespace WHERE nspname = ANY(%s)",
        (list(SERVICES),),
    )
    found = {str(schema): bool(allowed) for schema, allowed in rows}
    if locked := [service for service in SERVICES if not found.get(service, may_create)]:
        yield bad(
            "PostgreSQL", f"the user may not make tables for {', '.join(locked)} in {address}",
            "GRANT CREATE ON DATABASE … TO …, or ALTER SCHEMA … OWNER TO …",
        )  # fmt: skip
    else:
        yield good("PostgreSQL", f"{address} is version {version.split()[0]}; the user may do what is needed")
    before = datetime.now(UTC)
    there = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    after = datetime.now(UTC)
    skew = max((before - there).total_seconds(), (there - after).total_seconds(), 0.0)
    if skew > _MOST_SKEW_S:
        yield unsure(
            "clock", f"this machine's and PostgreSQL's are {skew:.1f} s apart", "let both follow the same NTP servers"
        )
    else:
        yield good("clock", "this machine's and PostgreSQL's agree")


def _schemas(home: Home, settings: Settings) -> Iterator[Finding]:
    """Whether each database is at this release's schema, and how many records wait there to be shipped."""
    from cli.schemas import plan, records_waiting

    try:
        moves = plan(home, settings, [], lambda _: None)
    except TiationError as error:
        yield bad("schemas", error.message, "stop the platform, then do that: no service starts on it")
        return
    if behind := [f"{move.service}/{move.schema}" for move in moves if move.is_needed]:
        yield unsure(
            "schemas", f"older than this release's: {', '.join(behind)}",
            "nothing: a service brings its own up at its start; `tiation upgrade` does so before",
        )  # fmt: skip
    elif moves:
        yield good("schemas", "all are this release's")
    waiting = records_waiting(home, settings)
    shown = ", ".join(f"{service} {count}" for service, count in waiting.items() if count) or "none"
    if sum(waiting.values()) > _MANY_WAITING:
        yield unsure("records waiting", shown, "see `tiation logs security`: they are shipped when it answers")
    else:
        yield good("records waiting", shown)
