"""Two orchestrators on one PostgreSQL: what one does, the other hears of at once."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from mesh.page_key import page_key
from orchestrator.notices import Notices
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import RUN
from tests.unit.orchestrator.executors import ROWS, THINK, add, executor, held, in_state, until, working

pytestmark = pytest.mark.parametrize("place", ["postgresql"], indirect=True)


async def test_a_cancellation_through_another_orchestrator_ends_a_call_that_waits(database, second_database, sandbox):
    calls = FakeCalls(holding=asyncio.Event())
    own = executor(database, sandbox, THINK, calls, lease_s=60.0)
    database.listen("cancellations", own.hear_cancellation)
    await add(second_database)
    async with working(own):
        await until(lambda: held(calls, 1))
        began = time.monotonic()
        await second_database.write(lambda transaction: ROWS.request_cancel(transaction, RUN, datetime.now(UTC)))
        await in_state(second_database, "CANCELLED")
        assert time.monotonic() - began < 2  # by itself it would ask after twenty seconds


async def test_whoever_streams_through_another_orchestrator_is_woken_by_each_event(database, second_database):
    notices = Notices()
    second_database.listen("runs", notices.hear)
    with notices.listen(RUN) as grown, notices.listen(RUN + "x") as other:
        async with asyncio.timeout(8):
            await grown.wait()  # it may have missed something before it listened
        grown.clear()
        other.clear()
        await add(database)
        async with asyncio.timeout(2):
            await grown.wait()
        assert not other.is_set()


async def test_a_page_token_of_one_orchestrator_is_good_at_the_other(database, second_database):
    keys = await asyncio.gather(page_key(database), page_key(second_database), page_key(database))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
