"""The `sql` connector: statements with named parameters, on SQLite inside one folder or on a driver that is allowed.

An effect's key is written into the system's own database in the transaction of the effect itself, so that it happens
once or not at all, whoever dies meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.pool import QueuePool

from integration.adapters import postgres_place
from integration.adapters.server_place import Servers
from integration.adapters.sql_values import parameters_of, rows_of
from integration.adapters.sqlite_place import (
    EFFECTS_TABLE,
    MAX_VALUE_BYTES,
    confine,
    folder_of,
    open_sqlite,
    release,
    resolve_inside,
)
from integration.errors import (
    AnswerTooLargeError,
    CallTimeoutError,
    CredentialUnknownError,
    EffectKeyReusedError,
    IntegrationError,
    LocationForbiddenError,
    OperationInvalidError,
    SystemRefusedError,
    SystemUnavailableError,
)
from integration.ports import Answer, Effect, Limits, Target
from mesh.resource import tenant_of

__all__ = ["SqlConnector"]

_MAX_STATEMENT_CHARS = 65_536
_MAX_ENGINES = 64
_INTERRUPTS = 4
_INTERRUPT_S = 0.5
_CREDENTIALS = frozenset({"username", "password"})
_EFFECTS = f"""
CREATE TABLE IF NOT EXISTS {EFFECTS_TABLE} (
    effect_key VARCHAR(768) PRIMARY KEY, digest VARCHAR(64) NOT NULL,
    output TEXT NOT NULL, create_time VARCHAR(40) NOT NULL
)"""
_FIND = text(f"SELECT digest, output FROM {EFFECTS_TABLE} WHERE effect_key = :key")  # noqa: S608 -- a constant
_KEEP = text(
    f"INSERT INTO {EFFECTS_TABLE} (effect_key, digest, output, create_time) "  # noqa: S608 -- a constant
    "VALUES (:key, :digest, :output, :create_time)"
)


class _Fate:
    """Whether an attempt is kept or given up: the thread that commits it and who waits for it, the first decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = False
        self._given_up = False

    def give_up(self) -> bool:
        """Nothing of it is to stay; false where it is being kept already."""
        with self._lock:
            self._given_up = not self._kept
            return self._given_up

    def keep(self) -> None:
        """It is about to be committed.

        Raises:
            CallTimeoutError: nobody waits for it any more.
        """
        with self._lock:
            self._kept = not self._given_up
        self.check()

    def check(self) -> None:
        """Go no further with what was given up.

        Raises:
            CallTimeoutError: nobody waits for it any more.
        """
        if self._given_up:
            raise CallTimeoutError("the statement was stopped")


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt: what to run, and how to stop it."""

    statement: str
    parameters: Mapping[str, object]
    effect: Effect | None
    timeout_s: float
    fate: _Fate
    loop: asyncio.AbstractEventLoop
    stop: list[Callable[[], None]]


class SqlConnector:
    """Speaks SQL.

    Args:
        folder: where SQLite databases may be, those of each tenant apart.
        drivers: which SQLAlchemy drivers may be used, `sqlite` or `postgresql+psycopg`.
        servers: lets connections reach database servers.
        threads: how many statements run at once.
    """

    keeps_effects = True
    deduplicates = False

    def __init__(self, folder: Path, drivers: tuple[str, ...], servers: Servers, *, threads: int = 8) -> None:
        self._folder = folder
        self._servers = servers
        self._drivers = drivers
        self._engines: dict[tuple[str, str, int], Engine] = {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sql")

    def check(self, name: str, config: Mapping[str, object], credentials: Mapping[str, str]) -> None:
        """Refuse other settings than a `url` that is allowed, and other credentials than user name and password."""
        unknown = sorted(set(config) - {"url"})
        if unknown or not isinstance(config.get("url"), str):
            raise LocationForbiddenError("config must hold `url` and nothing else, for example sqlite:///crm.db")
        for given in credentials:
            if given not in _CREDENTIALS:
                raise CredentialUnknownError(
                    f"the sql connector has no use for a credential `{given}`; it knows username and password",
                    name=given,
                )
        self._url(str(config["url"]), name)

    def check_operation(self, spec: Mapping[str, object], field: str) -> None:
        """Refuse everything but one `statement`."""
        statement = spec.get("statement")
        if set(spec) != {"statement"} or not isinstance(statement, str) or not statement.strip():
            raise OperationInvalidError(
                f"{field}.spec must hold `statement`, the SQL text, and nothing else", field=field
            )
        if len(statement) > _MAX_STATEMENT_CHARS:
            raise OperationInvalidError(f"{field}.spec.statement is longer than {_MAX_STATEMENT_CHARS} characters")

    def programs(self, _: Mapping[str, object], __: Mapping[str, Mapping[str, object]]) -> Iterable[tuple[str, str]]:
        """A statement is none."""
        return ()

    def limits(self, _: Mapping[str, object]) -> Limits:
        """None but what the database sets itself."""
        return Limits()

    async def test(self, target: Target) -> str:
        """Run a statement that asks for nothing."""
        await self.call(target, {"statement": "SELECT 1"}, {}, effect=None, timeout_s=5.0)
        return f"{make_url(str(target.config['url'])).get_backend_name()} answers"

    async def call(
        self,
        target: Target,
        spec: Mapping[str, object],
        value: Any,  # noqa: ANN401 -- any JSON
        *,
        effect: Effect | None,
        timeout_s: float,
        repeatable: bool = False,  # noqa: ARG002 -- a transaction that did not commit did nothing
        resume: object = None,  # noqa: ARG002 -- an answer is never in pieces
    ) -> Answer:
        """Run the statement in a transaction of its own, together with the effect's key."""
        statement = str(spec["statement"])
        loop = asyncio.get_running_loop()
        work = _Work(statement, parameters_of(statement, value), effect, timeout_s, _Fate(), loop, [])
        queued = self._threads.submit(self._run, target, work)
        running = asyncio.wrap_future(queued)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(running)
        except TimeoutError:
            if queued.cancel():
                raise CallTimeoutError(f"the statement waited {timeout_s:g} s for its turn and never began") from None
            return await self._stopped(work, running)

    @staticmethod
    async def _stopped(work: _Work, running: asyncio.Future[Answer]) -> Answer:
        """Stop an attempt that takes too long; its answer, where it ended just before.

        Raises:
            CallTimeoutError: `outcome_known` says whether it certainly left nothing behind.
        """
        given_up = work.fate.give_up()
        for _ in range(_INTERRUPTS):  # one that comes just before the statement begins is lost
            for stop in work.stop:
                with suppress(DBAPIError, OSError):
                    await asyncio.to_thread(stop)
            done, _ = await asyncio.wait((running,), timeout=_INTERRUPT_S)
            if done:
                break
        with suppress(IntegrationError):
            if running.done():
                return running.result()
        error = CallTimeoutError(f"the statement took longer than {work.timeout_s:g} s and was stopped")
        error.outcome_known = given_up or running.done()
        raise error

    async def close(self) -> None:
        """Close every database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for engine in self._engines.values():
            engine.dispose()

    def _run(self, target: Target, work: _Work) -> Answer:
        """One attempt, on a thread."""
        work.fate.check()
        try:
            with self._engine(target, work.loop).connect() as connection:
                driver: Any = connection.connection.driver_connection
                if connection.dialect.name == "sqlite":
                    work.stop.append(driver.interrupt)
                elif connection.dialect.name == "postgresql":
                    postgres_place.check_statement(work.statement)
                    work.stop.append(partial(postgres_place.cancel, driver))
                with connection.begin():
                    work.fate.check()
                    answer = self._in_transaction(connection, driver, work)
                    work.fate.keep()
                return answer
        except IntegrationError:
            raise
        except DBAPIError as error:
            on_postgres = self._url(str(target.config["url"]), target.name).get_backend_name() == "postgresql"
            raise (postgres_place.translated(error) if on_postgres else _translated(error)) from None

    @staticmethod
    def _in_transaction(connection: Connection, driver: Any, work: _Work) -> Answer:  # noqa: ANN401 -- the driver's own
        effect, on_postgres = work.effect, connection.dialect.name == "postgresql"
        if on_postgres:
            postgres_place.begin(connection, work.timeout_s)
        if effect is not None:
            if on_postgres:
                postgres_place.take_effect_key(connection, effect.key, _EFFECTS)
            else:
                connection.exec_driver_sql(_EFFECTS)
            row = connection.execute(_FIND, {"key": effect.key}).one_or_none()
            if row is not None:
                if row.digest != effect.digest:
                    raise EffectKeyReusedError("the effect key was used for another operation or input", key=effect.key)
                return Answer(msgspec.json.decode(row.output), replayed=True)
        if connection.dialect.name == "sqlite":
            confine(driver)
        try:
            output = _output(connection, driver, work)
        finally:
            if connection.dialect.name == "sqlite":
                release(driver)
        if effect is not None:
            kept = {
                "key": effect.key,
                "digest": effect.digest,
                "output": msgspec.json.encode(output).decode(),
                "create_time": datetime.now(UTC).isoformat(),
            }
            connection.execute(_KEEP, kept)
        return Answer(output)

    def _engine(self, target: Target, loop: asyncio.AbstractEventLoop) -> Engine:
        """The pool of connections to a system; an older revision's, or one deleted under this name, is closed."""
        key = (target.name, target.uid, target.revision)
        engine = self._engines.get(key)
        if engine is None:
            for old in [old for old in self._engines if old[0] == target.name] or list(self._engines)[:-_MAX_ENGINES]:
                self._engines.pop(old).dispose()
            engine = self._engines[key] = self._open(target, loop)
        return engine

    def _open(self, target: Target, loop: asyncio.AbstractEventLoop) -> Engine:
        url = self._url(str(target.config["url"]), target.name)
        if url.get_backend_name() != "sqlite":
            credentials = target.credentials
            url = url.set(username=credentials.get("username"), password=credentials.get("password"))
            arguments = postgres_place.ARGUMENTS if url.get_dialect().driver == "psycopg" else {}
            arguments = {name: value for name, value in arguments.items() if name not in url.query}
            engine = create_engine(url, pool_size=4, max_overflow=4, pool_pre_ping=True, connect_args=arguments)
            self._servers.pin(engine, url, loop)
            return engine
        path = resolve_inside(self._place(target.name), url.database or "")
        engine = create_engine(
            "sqlite://", creator=lambda: open_sqlite(path), poolclass=QueuePool, pool_size=4, max_overflow=4
        )
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    def _place(self, name: str) -> Path:
        """Where the databases of a connection's tenant are."""
        return folder_of(self._folder, tenant_of(name))

    def _url(self, location: str, name: str) -> URL:
        """A URL that the operator allows a connection of that name.

        Raises:
            LocationForbiddenError: its driver or its place is not allowed.
        """
        try:
            url = make_url(location)
        except ArgumentError:
            raise LocationForbiddenError("config.url is no database URL, for example sqlite:///crm.db") from None
        if url.drivername not in self._drivers:
            raise LocationForbiddenError(
                f"the driver `{url.drivername}` is not allowed; the operator allows {', '.join(self._drivers)} "
                "(integration.sql_drivers)",
                driver=url.drivername,
            )
        if url.get_backend_name() == "sqlite":
            if url.query or url.host:
                raise LocationForbiddenError("config.url of a SQLite database takes a file name and nothing else")
            resolve_inside(self._place(name), url.database or "")
            return url
        self._servers.check(url)
        return url


def _output(connection: Connection, driver: Any, work: _Work) -> dict[str, object]:  # noqa: ANN401 -- the driver's own
    """Run the statement; its rows, or how many it changed."""
    if connection.dialect.driver == "psycopg":
        streamed = postgres_place.streamed(connection, driver, work.statement, work.parameters, rows_of)
        if streamed is not None:
            return streamed
    result = connection.execute(text(work.statement), dict(work.parameters))
    return rows_of(result.mappings()) if result.returns_rows else {"row_count": result.rowcount}


def _translated(error: DBAPIError) -> IntegrationError:
    """A driver's error in our words, and whether another attempt may help."""
    said = str(error.orig)
    if isinstance(error, IntegrityError):
        return SystemRefusedError(f"the database refused it: {said}")
    if error.connection_invalidated or "locked" in said or "busy" in said or "full" in said:
        refused = SystemUnavailableError(f"the database is not available: {said}")
        refused.outcome_known = not error.connection_invalidated
        return refused
    if "too big" in said:
        return AnswerTooLargeError(f"the statement makes or reads a value of more than {MAX_VALUE_BYTES} bytes")
    if "interrupted" in said:
        return CallTimeoutError("the statement was stopped")
    if "not authorized" in said or "prohibited" in said:
        return SystemRefusedError("the statement would leave its database, which is not allowed")
    return SystemRefusedError(f"the database refused it: {said}")
