"""The live view: at once, again when something is counted, resumed where it was left, ended when the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

import analytics.live
from analytics.buckets import Granularity, Span
from analytics.filters import parse_filter
from analytics.live import LiveView
from analytics.metrics import METRICS
from analytics.query import Queries, Question
from mesh.db import Database
from tests.fakes.analytics_facts import NOON, a_fact
from tests.unit.analytics.conftest import ROWS, Counter

QUESTION = Question(
    "default", Span(Granularity.MINUTE, 0, 60), [METRICS["calls"]], ("agent",), parse_filter(""),
    order=METRICS["calls"], descending=True, limit=10,
)  # fmt: skip


class Runs:
    """The runs that live."""

    def __init__(self) -> None:
        self.now: Mapping[str, Mapping[str, int]] = {}

    async def count(self, tenant: str) -> Mapping[str, Mapping[str, int]]:
        """As `LiveRuns.count`."""
        return self.now if tenant == "default" else {}


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def live(database: Database, runs: Runs, monkeypatch) -> LiveView:
    monkeypatch.setattr(analytics.live, "_PACE_S", 0.02)
    monkeypatch.setattr(analytics.live, "_AT_LEAST_S", 30.0)
    return LiveView(Queries(database, ROWS), runs, now=lambda: NOON + 90)


async def test_a_snapshot_is_of_the_window_from_a_full_minute_on(live: LiveView, counter: Counter, runs: Runs):
    await counter.count([a_fact(-1), a_fact(0), a_fact(61), a_fact(89)])
    runs.now = {"tenants/default/agents/a": {"RUNNING": 2}}
    snapshot = await live.snapshot(QUESTION, 60)
    assert (snapshot.start_s, snapshot.end_s) == (NOON, NOON + 90)
    assert snapshot.answer.total.calls == 3
    assert snapshot.runs == runs.now
    assert (await live.snapshot(QUESTION, 300)).answer.total.calls == 4


async def test_whoever_watches_hears_at_once_and_then_of_what_changes(live: LiveView, counter: Counter, runs: Runs):
    heard = live.watch(QUESTION, 60, 0)
    assert (await anext(heard)).answer.total.calls == 0
    later = asyncio.create_task(anext(heard))
    await asyncio.sleep(0.2)
    assert not later.done()
    await counter.count([a_fact(60)])
    live.counted(1)
    assert (await later).answer.total.calls == 1
    later = asyncio.create_task(anext(heard))
    await asyncio.sleep(0.1)
    runs.now = {"tenants/default/agents/a": {"QUEUED": 1}}
    assert (await later).runs == runs.now
    await heard.aclose()


async def test_whoever_resumes_hears_when_there_is_something_newer(live: LiveView):
    live.counted(7)
    resumed = live.watch(QUESTION, 60, 7)
    first = asyncio.create_task(anext(resumed))
    await asyncio.sleep(0.1)
    assert not first.done()
    live.counted(8)
    assert (await first).sequence == 8
    await resumed.aclose()
    behind = live.watch(QUESTION, 60, 7)
    assert (await anext(behind)).sequence == 8
    await behind.aclose()


async def test_a_stream_ends_when_the_service_stops(live: LiveView):
    heard = live.watch(QUESTION, 60, 0)
    await anext(heard)
    rest = asyncio.create_task(anext(heard, None))
    await asyncio.sleep(0.05)
    live.close()
    assert await rest is None
