"""Long reads that are given up: the thread stops, its file is gone, and its turn is free when it has ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import analytics.export
from analytics.adapters.parquet import DuckdbParquet
from analytics.buckets import Granularity, Span
from analytics.cells import Cell
from analytics.errors import ExportsBusyError
from analytics.export import Exports
from analytics.filters import parse_filter
from analytics.metrics import metrics_named
from analytics.ports import Row
from analytics.query import Queries, Question, order_of
from mesh.db import Database
from tests.fakes.analytics_facts import NOON, a_fact
from tests.unit.analytics.conftest import ROWS, Counter

START = Granularity.DAY.floor(NOON)
DAY = Span(Granularity.HOUR, START, START + 86400)
ALL = parse_filter("")


class SlowRows(type(ROWS)):
    """Two thousand rows of the first series: each waits until it may come, and two milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.given = 0

    def scan(self, *_):
        """As `RollupRows.scan`."""
        for _ in range(2000):
            self.gate.wait(20)
            time.sleep(0.002)
            self.given += 1
            yield Row(NOON, 1, Cell())

    def read(self, *_):
        """The same, as they come."""
        return self.scan()


class Watched:
    """The database, of which is known how many of its threads read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self.reading = self.most = 0

    async def read(self, work):
        """As `Database.read`."""

        def counted(transaction):
            self._count(1)
            try:
                return work(transaction)
            finally:
                self._count(-1)

        return await self._database.read(counted)

    def _count(self, more: int) -> None:
        with self._lock:
            self.reading += more
            self.most = max(self.most, self.reading)


@pytest.fixture
async def watched(counter: Counter) -> Watched:
    """A database with one series, watched."""
    await counter.count([a_fact()])
    return Watched(counter.database)


@pytest.fixture
def rows(database: Database) -> Iterator[SlowRows]:
    """Rows that nobody waits for when the database is closed."""
    made = SlowRows()
    yield made
    made.gate.set()


@pytest.fixture
def exports(watched: Watched, rows: SlowRows, tmp_path: Path) -> Exports:
    return Exports(watched, rows, DuckdbParquet(), tmp_path / "exports")


async def export(exports: Exports) -> int:
    async with exports.written("default", DAY, ALL, as_parquet=False) as made:
        return made.rows


async def ask(queries: Queries) -> int:
    order, descending = order_of("")
    question = Question("default", DAY, metrics_named(["calls"]), (), ALL, order, descending, 1)
    return (await queries.answer(question)).omitted


async def until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not there():
            await asyncio.sleep(0.005)


async def given_up(task: asyncio.Task[int]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_an_export_that_is_given_up_reads_no_further_and_leaves_no_file(exports, rows, watched, tmp_path: Path):
    rows.gate.set()
    task = asyncio.create_task(export(exports))
    await until(lambda: rows.given > 3)
    await given_up(task)
    given = rows.given
    assert watched.reading == 0
    await asyncio.sleep(0.1)
    assert rows.given == given
    assert list((tmp_path / "exports").iterdir()) == []


async def test_a_turn_is_free_when_the_thread_has_ended_however_often_its_export_is_cancelled(
    exports, rows, watched, monkeypatch
):
    monkeypatch.setattr(analytics.export, "_AT_ONCE", 1)
    task = asyncio.create_task(export(exports))
    await until(lambda: watched.reading)
    for _ in range(3):
        task.cancel()
        await asyncio.wait((task,), timeout=0.05)
        assert not task.done()
        with pytest.raises(ExportsBusyError):
            await export(exports)
    rows.gate.set()
    await asyncio.wait((task,), timeout=5)
    assert task.cancelled()
    again = asyncio.create_task(export(exports))
    await until(lambda: watched.reading)
    await given_up(again)


async def test_four_exports_leave_the_database_to_others_and_a_fifth_is_refused(
    exports, rows, watched, database: Database
):
    tasks = [asyncio.create_task(export(exports)) for _ in range(4)]
    await until(lambda: watched.reading >= 2)
    assert await asyncio.wait_for(database.read(ROWS.position), 2) == 1
    with pytest.raises(ExportsBusyError):
        await export(exports)
    for task in tasks[2:]:  # those that wait for their turn go at once
        await asyncio.wait_for(given_up(task), 2)
    rows.gate.set()
    for task in tasks[:2]:
        await given_up(task)
    assert watched.most == 2


async def test_an_export_that_is_read_again_because_the_database_went_away_is_written_anew(
    database: Database, counter: Counter, tmp_path: Path
):
    await counter.count([a_fact()])

    class Breaking(type(ROWS)):
        broken = False

        def scan(self, *arguments):
            yield from super().scan(*arguments)
            if not self.broken:
                self.broken = True
                raise ConnectionError

    class Again:
        async def read(self, work):
            def twice(transaction):
                with suppress(ConnectionError):
                    work(transaction)
                return work(transaction)

            return await database.read(twice)

    exports = Exports(Again(), Breaking(), DuckdbParquet(), tmp_path / "exports")
    assert await export(exports) == 1


async def test_queries_that_are_given_up_stop_and_no_more_than_two_ever_compute(rows, watched):
    queries = Queries(watched, rows)
    tasks = [asyncio.create_task(ask(queries)) for _ in range(2)]
    await until(lambda: watched.reading == 2)
    for task in tasks:
        task.cancel()
    third = asyncio.create_task(ask(queries))
    await asyncio.sleep(0.1)
    assert watched.most == 2
    rows.gate.set()
    await asyncio.wait(tasks, timeout=5)
    await until(lambda: watched.reading == 1)
    await given_up(third)
    assert (watched.most, watched.reading) == (2, 0)
    assert rows.given < 1000
