"""The one way to a service's database: reads in a few threads, writes in groups.

Every write of a process goes through one writer thread. Whatever waits when a transaction ends goes into the next
one together, so that sixteen writers pay for one fsync and never fight for SQLite's lock. Schemas and statements
live in each service's `store.py`, not here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from mesh.errors import Code, TiationError

__all__ = [
    "Database",
    "DatabaseBusyError",
    "DatabaseFullError",
    "DatabaseUnreadableError",
    "Transaction",
    "Work",
    "open_database",
]

T = TypeVar("T")
Work = Callable[[Connection], T]
Transaction: TypeAlias = Connection
"""An open transaction: what a core hands from here to its store, and never looks into."""

MAX_WAITING_WRITES = 10_000
MAX_GROUP = 256


class DatabaseFullError(TiationError):
    """There is no room left under the state folder; nothing of the write was kept."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"


class DatabaseBusyError(TiationError):
    """More writes wait than the service may hold."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "DATABASE_BUSY"


class DatabaseUnreadableError(TiationError):
    """The database's file is damaged, or none of ours."""

    code = Code.DATA_LOSS
    reason = "DATABASE_UNREADABLE"


@dataclass(slots=True)
class _Unit:
    """One write on its way: what to do, whom to tell, and whether power loss may take it."""

    work: Callable[[Connection], Any]
    durable: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = field(default=None)

    def settle(self) -> None:
        """Resolve the waiting future on its own loop, once; a cancelled waiter is left alone."""

        def resolve() -> None:
            if self.future.done():
                return
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(self.result)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(resolve)


class Database:
    """A service's own database.

    Args:
        engine: a synchronous SQLAlchemy engine; statements run in this object's threads, never on the loop.
        readers: how many reads may run at once.

    Attributes:
        companion: asked at every durable write for what shall commit with it; the call's record is kept so.
        committed: told when a companion has committed.
    """

    def __init__(self, engine: Engine, *, readers: int = 4) -> None:
        self.engine = engine
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._queue: SimpleQueue[_Unit | None] = SimpleQueue()
        self._waiting = 0
        self.companion: Callable[[], Callable[[Connection], None] | None] = lambda: None
        self.committed: Callable[[], None] = lambda: None
        self._writer = threading.Thread(target=self._write_loop, name="db-write", daemon=True)
        self._writer.start()

    @property
    def is_sqlite(self) -> bool:
        """True on SQLite, false on PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a connection of its own, outside any write, and return what it returns."""

        def run() -> T:
            with self.engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` inside a transaction and return what it returns once that is committed.

        `work` must hold SQL only and be quick: other writes share its transaction, each behind a savepoint, so
        that an error undoes this write alone.

        Args:
            work: what to do on the connection.
            durable: true to survive power loss; false to survive the death of the process only (no fsync).

        Raises:
            DatabaseBusyError: too many writes wait.
            DatabaseFullError: no room is left on the disk.
        """
        if self._waiting >= MAX_WAITING_WRITES:
            raise DatabaseBusyError("the database has too many writes waiting; try again", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        companion = self.companion() if durable else None
        unit = _Unit(_together(work, companion), durable, loop, loop.create_future())
        self._waiting += 1
        self._queue.put(unit)
        try:
            result: T = await unit.future
        finally:
            self._waiting -= 1
        if companion is not None:
            self.committed()
        return result

    async def close(self) -> None:
        """Finish the writes that wait and close every connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    def _write_loop(self) -> None:
        while (unit := self._queue.get()) is not None:
            group = [unit]
            last = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    last = True
                    break
                group.append(following)
            self._commit_group(group)
            if last:
                return

    def _commit_group(self, group: Sequence[_Unit]) -> None:
        """Commit a group in one transaction; if the commit itself fails, every member learns of it."""
        try:
            with self.engine.connect() as connection:
                self._set_durability(connection, durable=any(unit.durable for unit in group))
                with connection.begin():
                    for unit in group:
                        self._run_unit(connection, unit, alone=len(group) == 1)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the waiters must hear of it
            for unit in group:
                unit.error = unit.error or _translated(error)
        for unit in group:
            unit.settle()

    def _set_durability(self, connection: Connection, *, durable: bool) -> None:
        if self.is_sqlite:
            driver = connection.connection.driver_connection
            assert driver is not None  # noqa: S101 -- a checked-out connection has one
            driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")

    @staticmethod
    def _run_unit(connection: Connection, unit: _Unit, *, alone: bool) -> None:
        """Run one member; its error undoes only what it did."""
        if alone:
            unit.result = unit.work(connection)
            return
        savepoint = connection.begin_nested()
        try:
            unit.result = unit.work(connection)
        except Exception as error:  # noqa: BLE001 -- it belongs to this member and is handed to its waiter
            savepoint.rollback()
            unit.error = _translated(error)
        else:
            savepoint.commit()


def _together(work: Work[T], companion: Callable[[Connection], None] | None) -> Work[T]:
    """One piece of work that does both, so that both commit or neither."""
    if companion is None:
        return work

    def both(connection: Connection) -> T:
        result = work(connection)
        companion(connection)
        return result

    return both


def _translated(error: BaseException) -> BaseException:
    """Say a full disk in our own words; every other error stays what it is."""
    if isinstance(error, OperationalError) and ("disk is full" in str(error) or "disk I/O error" in str(error)):
        return DatabaseFullError(
            "no space is left under the state folder; free some, then try again", retry_after_s=5.0
        )
    return error


def open_database(url: str) -> Database:
    """Open a database by its SQLAlchemy URL; a SQLite file is made with mode 0600 inside an existing folder."""
    if not url.startswith("sqlite"):
        return Database(create_engine(url, pool_size=8, pool_pre_ping=True))
    path = Path(url.removeprefix("sqlite:///"))
    if url != "sqlite://" and not path.exists():
        path.touch(mode=0o600)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 10.0}, pool_size=8)

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

    return Database(engine)
