"""Ingestion: everything once through breaks, behind figures that are true, retention that forgets what is old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from structlog.testing import capture_logs

import analytics.ingest
from analytics.buckets import Granularity
from analytics.facts import Prices, Usage
from analytics.figures import Figures
from analytics.ingest import Ingest
from analytics.keeper import Keeper
from analytics.retention import Retention
from mesh.db import Database
from tests.fakes.analytics_facts import NOON, FakeFeed, a_fact
from tests.fakes.background import running
from tests.unit.analytics.conftest import ROWS, Counter


@pytest.fixture(autouse=True)
def _hurried(monkeypatch) -> None:
    monkeypatch.setattr(analytics.ingest, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(analytics.ingest, "_LINGER_S", 0.01)


@asynccontextmanager
async def ingesting(counter: Counter, feed: FakeFeed, registry: CollectorRegistry | None = None) -> AsyncIterator[None]:
    """The service's loop at work."""
    figures = Figures(registry or CollectorRegistry())
    keeper = Keeper(counter.database, counter.rollups, Prices({}), figures)
    ingest = Ingest(feed, counter.database, ROWS, keeper, figures)
    async with running(ingest.run):
        yield


async def until(there: Callable[[], object], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await there():
            await asyncio.sleep(0.01)


async def test_every_fact_is_counted_once_though_the_feed_breaks_again_and_again(counter: Counter):
    feed = FakeFeed([a_fact(n % 600) for n in range(500)], piece=7)
    feed.breaks_after = [30, 60, 61, 200, 350]

    async def done() -> bool:
        return await counter.database.read(ROWS.position) == 500

    async with ingesting(counter, feed):
        await until(done)
    assert (await counter.ask()).total.calls == 500
    assert len(feed.asked) == 6


async def test_a_batch_that_cannot_be_kept_is_read_again(counter: Counter, monkeypatch):
    failures = [3]

    class Rows(type(ROWS)):
        def put(self, connection, cells):
            super().put(connection, cells)
            if failures[0]:
                failures[0] -= 1
                raise OSError("disk")

    counter.rollups._rows = Rows()
    registry = CollectorRegistry()

    async def done() -> bool:
        return await counter.database.read(ROWS.position) == 50

    async with ingesting(counter, FakeFeed([a_fact(n) for n in range(50)]), registry):
        await until(done)
    assert (await counter.ask()).total.calls == 50
    assert registry.get_sample_value("tiation_analytics_rollup_failures_total") == 3


async def test_records_that_cannot_be_kept_are_left_out_and_said_and_all_others_are_counted_once(counter: Counter):
    facts = [a_fact(n % 600) for n in range(200)]
    for spoilt in (0, 77, 78, 199):
        facts[spoilt] = a_fact(method="a surrogate: \ud800", usage=Usage(5))
    registry = CollectorRegistry()
    feed = FakeFeed(facts, piece=60)

    async def done() -> bool:
        return await counter.database.read(ROWS.position) == 200

    with capture_logs() as said:
        async with ingesting(counter, feed, registry):
            await until(done)
    total = (await counter.ask()).total
    assert (total.calls, total.sums[2]) == (196, 0)
    assert registry.get_sample_value("tiation_analytics_facts_left_out_total") == 4
    assert registry.get_sample_value("tiation_analytics_facts_total") == 196
    assert [line["sequence"] for line in said if line["event"] == "record left out"] == [1, 78, 79, 200]
    assert len(feed.asked) == 1


async def test_no_record_is_left_out_for_what_is_the_databases_fault(counter: Counter):
    await counter.database.write(lambda connection: connection.execute(text("ALTER TABLE rollups RENAME TO gone")))
    registry = CollectorRegistry()

    async def failed() -> bool:
        return registry.get_sample_value("tiation_analytics_rollup_failures_total") >= 7

    async def done() -> bool:
        return await counter.database.read(ROWS.position) == 30

    async with ingesting(counter, FakeFeed([a_fact(n) for n in range(30)]), registry):
        await until(failed)
        await counter.database.write(lambda connection: connection.execute(text("ALTER TABLE gone RENAME TO rollups")))
        await until(done)
    assert (await counter.ask()).total.calls == 30
    assert registry.get_sample_value("tiation_analytics_facts_left_out_total") == 0


async def test_how_far_behind_it_is_is_said_in_records_and_seconds(counter: Counter, monkeypatch):
    monkeypatch.setattr(analytics.ingest, "_MAX_FACTS", 10)
    registry = CollectorRegistry()
    seen: list[tuple[float, float]] = []
    feed = FakeFeed([a_fact(n) for n in range(100)])

    async def done() -> bool:
        behind = registry.get_sample_value("tiation_analytics_facts_behind")
        seconds = registry.get_sample_value("tiation_analytics_facts_behind_seconds")
        seen.append((behind, seconds))
        return await counter.database.read(ROWS.position) == 100 and behind == 0

    async with ingesting(counter, feed, registry):
        await until(done)
    assert any(behind > 0 and seconds > 0 for behind, seconds in seen), seen
    assert seen[-1] == (0, 0)
    assert registry.get_sample_value("tiation_analytics_facts_total") == 100
    assert registry.get_sample_value("tiation_analytics_rollup_write_seconds_count") >= 1


async def test_when_security_was_restored_to_an_earlier_state_counting_goes_on_from_there(counter: Counter):
    await counter.count([a_fact(n) for n in range(40)])
    feed = FakeFeed([a_fact(n) for n in range(25)])  # its records end before what has been counted

    async def stepped_back() -> bool:
        return await counter.database.read(ROWS.position) == 25

    async def done() -> bool:
        return await counter.database.read(ROWS.position) == 30

    async with ingesting(counter, feed):
        await until(stepped_back)
        feed.facts += [a_fact(n) for n in range(5)]
        await until(done)
    assert (await counter.ask()).total.calls == 45


async def test_what_is_older_than_it_is_kept_is_forgotten_at_each_granularity(counter: Counter, database: Database):
    await counter.count([a_fact(0), a_fact(-86400 * 2), a_fact(-86400 * 40, agent="tenants/default/agents/old")])
    kept_d = {Granularity.MINUTE: 1, Granularity.HOUR: 10, Granularity.DAY: 20}
    retention = Retention(database, ROWS, counter.rollups, kept_d, now=lambda: NOON + 60)
    dropped = await retention.once()

    def left(connection) -> dict[str, int]:
        counted = "SELECT granularity, count(*) FROM rollups WHERE cube = 'total' GROUP BY granularity"
        return dict(tuple(row) for row in connection.execute(text(counted)))

    assert dropped > 0
    assert await database.read(left) == {"minute": 1, "hour": 2, "day": 2}
    names = "SELECT count(*) FROM series WHERE agent LIKE '%old'"
    assert await database.read(lambda connection: connection.execute(text(names)).scalar_one()) == 0
    await counter.count([a_fact(0, agent="tenants/default/agents/old")])
    assert (await counter.ask(text="agent = old")).total.calls == 1
    assert await retention.once() == 0
