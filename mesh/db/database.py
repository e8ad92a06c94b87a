"""The one way to a service's database: reads in a few threads, writes in groups.

Every write of a process goes through one writer thread. Whatever waits when a transaction ends goes into the next
one together, so that sixteen writers pay for one fsync and never fight for SQLite's lock. On PostgreSQL the writers of
a service's processes take turns likewise, by a lock that each transaction begins with. Schemas and statements live in
each service's `store.py`, not here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from mesh.db.faults import DatabaseBusyError, Fault, OutcomeUnknownError, fault_of, translated
from mesh.db.news import Hear, News
from mesh.db.patience import Patience

__all__ = ["Database", "Transaction", "Work", "lock_key"]

T = TypeVar("T")
Work = Callable[[Connection], T]
Transaction: TypeAlias = Connection
"""An open transaction: what a core hands from here to its store, and never looks into."""

MAX_WAITING_WRITES = 10_000
MAX_GROUP = 256
_LOOK_S = 0.05
"""How often whoever wants to be alone asks whether he may."""


def lock_key(*parts: str) -> int:
    """The number of an advisory lock of PostgreSQL, from what it is called."""
    return int.from_bytes(sha256("\0".join(("tiation", *parts)).encode()).digest()[:8], "big", signed=True)


class _MemberFailedError(Exception):
    """A member of a group failed where no savepoint had been set: the group is done again with savepoints."""


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
        schema: the service's own, on PostgreSQL.

    Attributes:
        companion: asked at every durable write for what shall commit with it; the call's record is kept so.
        committed: told when a companion has committed.
    """

    def __init__(self, engine: Engine, *, readers: int = 4, schema: str = "") -> None:
        self.engine = engine
        self.schema = schema
        self.companion: Callable[[], Callable[[Connection], None] | None] = lambda: None
        self.committed: Callable[[], None] = lambda: None
        # One snapshot for all statements of a read, as SQLite has it.
        snapshot = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reading = engine.execution_options(**snapshot)
        self._turn = lock_key("writer", schema)
        self._patience = Patience()
        self._news = News(engine, schema)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._queue: SimpleQueue[_Unit | None] = SimpleQueue()
        self._waiting = 0
        self._writer = threading.Thread(target=self._write_loop, name="db-write", daemon=True)
        self._writer.start()

    @property
    def is_sqlite(self) -> bool:
        """True on SQLite, false on PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @property
    def is_shared(self) -> bool:
        """Whether other processes of the service may change it, of which no word may come; not on SQLite."""
        return not self.is_sqlite

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a connection of its own, outside any write, and return what it returns.

        All its statements see one moment. When PostgreSQL goes away meanwhile, `work` runs again.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """

        def once() -> T:
            with self._reading.connect() as connection:
                return self._watched(connection, work)

        def run() -> T:
            try:
                return self._patience.over(once)
            except DBAPIError as error:
                raise translated(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` inside a transaction and return what it returns once that is committed.

        `work` must hold SQL only and be quick: other writes share its transaction, so that an error undoes this
        write alone. It may run more than once, each time from the start with nothing kept of the time before.

        Args:
            work: what to do on the connection.
            durable: true to survive power loss; false to survive the death of the process only (no fsync).

        Raises:
            DatabaseBusyError: too many writes wait.
            DatabaseFullError: no room is left on the disk.
            DatabaseUnavailableError: the database does not answer, or went away in the moment of the commit.
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

    def listen(self, topic: str, hear: Hear) -> None:
        """Have `hear` called on this loop when another process of the service has announced something.

        It gets what `mesh.db.announce` was given, or None when words may have been missed. On SQLite there is no other
        process, and it is never called.
        """
        self._news.listen(topic, hear)

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[None]:
        """Keep the service's other processes from being in here for the same `what`; it may take long.

        The right ends with the process or its connection. Inside a process use a lock besides.
        """
        if self.is_sqlite:
            yield
            return
        key = lock_key("alone", self.schema, what)
        connection = await asyncio.to_thread(self._open_alone)
        try:
            asking = f"SELECT pg_try_advisory_lock({key})"
            while not await asyncio.to_thread(_scalar, connection, asking):  # noqa: ASYNC110 -- another process has it
                await asyncio.sleep(_LOOK_S)
            yield
        finally:
            await asyncio.shield(asyncio.to_thread(_let_go, connection))

    async def close(self) -> None:
        """Finish the writes that wait and close every connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._news.close)
        self._readers.shutdown(wait=True)
        self.engine.dispose()

    def _open_alone(self) -> Connection:
        def once() -> Connection:
            return self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")

        try:
            return self._patience.over(once)
        except DBAPIError as error:
            raise translated(error) from error

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
            self._patience.over(lambda: self._attempt(group))
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the waiters must hear of it
            for unit in group:
                unit.error = unit.error or translated(error)
        for unit in group:
            unit.settle()

    def _attempt(self, group: Sequence[_Unit]) -> None:
        """Do all of a group.

        A savepoint costs two ways to PostgreSQL and hardly anything on SQLite: there they are set when a member has
        failed, here always.
        """
        if self.is_sqlite or len(group) == 1:
            self._transact(group, savepoints=len(group) > 1)
            return
        try:
            self._transact(group, savepoints=False)
        except _MemberFailedError:
            self._transact(group, savepoints=True)

    def _transact(self, group: Sequence[_Unit], *, savepoints: bool) -> None:
        for unit in group:
            unit.result = unit.error = None
        durable = any(unit.durable for unit in group)
        with self.engine.connect() as connection:
            if self.is_sqlite:
                _set_sqlite_durability(connection, durable=durable)
            self._watched(connection, lambda _: self._run_units(connection, group, savepoints, durable))
            try:
                connection.commit()
            except DBAPIError as error:
                if fault_of(error) is Fault.LOST:
                    raise OutcomeUnknownError from error
                raise

    def _run_units(self, connection: Connection, group: Sequence[_Unit], savepoints: bool, durable: bool) -> None:
        if self.is_sqlite:
            connection.begin()
        else:
            self._news.forget(connection)
            self._take_turn(connection, durable=durable)
        for unit in group:
            if savepoints:
                self._run_unit(connection, unit)
                continue
            try:
                self._do(unit, connection)
            except Exception as error:  # whatever it is, the group is done again, each behind a savepoint
                if len(group) == 1 or _ends_transaction(error):
                    raise
                raise _MemberFailedError from error
        if not self.is_sqlite:
            self._news.send(connection)

    def _take_turn(self, connection: Connection, *, durable: bool) -> None:
        """Wait until no other process of the service writes; every statement from then on sees what they have kept."""
        lazily = "" if durable else ", set_config('synchronous_commit', 'off', true)"
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._turn}){lazily}")

    def _run_unit(self, connection: Connection, unit: _Unit) -> None:
        """Run one member behind a savepoint; its error undoes only what it did."""
        words = self._news.count(connection)
        savepoint = connection.begin_nested()
        try:
            self._do(unit, connection)
        except Exception as error:  # whatever it raises is undone, and told to its caller below
            if _ends_transaction(error):
                raise
            savepoint.rollback()
            self._news.forget(connection, words)
            unit.error = translated(error)
        else:
            savepoint.commit()

    def _do(self, unit: _Unit, connection: Connection) -> None:
        """Run a member's work and see that the transaction is whole.

        PostgreSQL answers COMMIT after an error with a rollback of which nobody hears.
        """
        unit.result = unit.work(connection)
        if not self.is_sqlite:
            driver: Any = connection.connection.driver_connection
            if driver.info.transaction_status.name == "INERROR":
                raise RuntimeError(
                    "a write went on after an error of the database; put a savepoint around what may fail"
                )

    @staticmethod
    def _watched(connection: Connection, work: Work[T]) -> T:
        """Do the work; a connection that turns out to be of no use is not given back to the pool."""
        try:
            return work(connection)
        except DBAPIError as error:
            if fault_of(error) is Fault.LOST and not connection.invalidated:
                connection.invalidate(error)
            raise


def _ends_transaction(error: BaseException) -> bool:
    """Whether nothing more can be done in the transaction that an error has come up in."""
    return fault_of(error) in (Fault.LOST, Fault.CONFLICT)


def _set_sqlite_durability(connection: Connection, *, durable: bool) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 -- a checked-out connection has one
    driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")


def _scalar(connection: Connection, statement: str) -> Any:  # noqa: ANN401 -- whatever it selects
    try:
        return connection.exec_driver_sql(statement).scalar()
    except DBAPIError as error:
        raise translated(error) from error


def _let_go(connection: Connection) -> None:
    """Give up all session locks of a connection; one that is broken holds none any more."""
    try:
        if not connection.invalidated:  # it was lost while it asked; SQLAlchemy takes no more statements on it
            connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
    except DBAPIError as error:
        connection.invalidate(error)
    connection.close()


def _together(work: Work[T], companion: Callable[[Connection], None] | None) -> Work[T]:
    """One piece of work that does both, so that both commit or neither."""
    if companion is None:
        return work

    def both(connection: Connection) -> T:
        result = work(connection)
        companion(connection)
        return result

    return both
