"""Two orchestrators on one PostgreSQL: what one does, the other hears of at once."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from mesh.page_key import page_key
from orchestrator.executor import Executor, Limits
from orchestrator.flow import parse_flow
from orchestrator.notices import Notices
from orchestrator.store import RunStore
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import RUN, a_run

pytestmark = pytest.mark.parametrize("place", ["postgresql"], indirect=True)
ROWS = RunStore()
THINK = "document: {dsl: 1.0.0, name: a}\ndo: [{t: {call: infer, with: {model: m, inputs: {x: [1]}}}}]"


async def until(holds, seconds=8.0):
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_cancellation_through_another_orchestrator_ends_a_call_that_waits(database, second_database, sandbox):
    calls = FakeCalls(holding=asyncio.Event())
    flow = parse_flow(THINK)[0]

    async def flow_of(_):
        return flow

    executor = Executor(database, ROWS, flow_of, lambda _: calls, sandbox, Notices(), Limits(8, 60.0, 1000))
    database.listen("cancellations", executor.hear_cancellation)
    await second_database.write(lambda transaction: ROWS.add(transaction, a_run(), "", "d"))
    await executor.start()
    await until(lambda: calls.asked)
    began = time.monotonic()
    await second_database.write(lambda transaction: ROWS.request_cancel(transaction, RUN, datetime.now(UTC)))
    while (await second_database.read(lambda transaction: ROWS.get(transaction, RUN))).state != "CANCELLED":
        await asyncio.sleep(0.005)
        assert time.monotonic() - began < 10
    assert time.monotonic() - began < 2  # by itself it would ask after twenty seconds
    await executor.stop()


async def test_whoever_streams_through_another_orchestrator_is_woken_by_each_event(database, second_database):
    notices = Notices()
    second_database.listen("runs", notices.hear)
    with notices.listen(RUN) as grown, notices.listen(RUN + "x") as other:
        await until(grown.is_set)  # it may have missed something before it listened
        grown.clear()
        other.clear()
        await database.write(lambda transaction: ROWS.add(transaction, a_run(), "", "d"))
        async with asyncio.timeout(2):
            await grown.wait()
        assert not other.is_set()


async def test_a_page_token_of_one_orchestrator_is_good_at_the_other(database, second_database):
    keys = await asyncio.gather(page_key(database), page_key(second_database), page_key(database))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
