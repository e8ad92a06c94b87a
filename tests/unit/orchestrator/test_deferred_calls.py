"""Calls that a callee defers: the step waits as long as it was told, and goes on; a run that is cancelled does not."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.errors import CallDeferredError
from tests.fakes.orchestrator_calls import FakeCalls
from tests.unit.orchestrator.executors import (
    EFFECT,
    RUN,
    THINK,
    add,
    cancel,
    ended,
    events_of,
    executor,
    run_of,
    until,
    working,
)


def limited(times, wait_s):
    """A callee that takes no calls for a while, so many times."""
    left = [times]

    def answer(given):
        if left[0]:
            left[0] -= 1
            raise CallDeferredError("too many requests", wait_s)
        return {"done": True}

    return answer


async def test_a_deferred_step_waits_and_goes_on_with_the_same_effect(database, sandbox):
    await add(database)
    calls = FakeCalls({"connect": limited(3, 0.2)})
    began = time.monotonic()
    async with working(executor(database, sandbox, EFFECT, calls)):
        run = await ended(database)
    assert run.state == "SUCCEEDED"
    assert time.monotonic() - began >= 0.6
    assert len(calls.asked) == 4
    assert len(set(calls.effect_keys())) == 1


async def test_thinking_is_deferred_too(database, sandbox):
    await add(database)
    async with working(executor(database, sandbox, THINK, FakeCalls({"infer": limited(1, 0.0)}))):
        assert (await ended(database)).state == "SUCCEEDED"


async def test_a_run_that_is_cancelled_while_its_step_is_deferred_ends_at_once(database, sandbox):
    await add(database)
    calls = FakeCalls({"connect": limited(1, 3600.0)})
    own = executor(database, sandbox, EFFECT, calls)
    async with working(own):
        async with asyncio.timeout(10):
            while not calls.asked:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        await cancel(database, own)
        assert (await ended(database, RUN)).state == "CANCELLED"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("wait_s", [300_000_000_000.0, float("inf")])
async def test_a_call_is_deferred_for_a_day_at_most(database, sandbox, wait_s):
    await add(database)

    async def aside():
        run = await run_of(database)
        return run.state not in ("QUEUED", "RUNNING") and run

    async with working(executor(database, sandbox, EFFECT, FakeCalls({"connect": limited(1, wait_s)}))):
        assert (await until(aside)).state == "WAITING"
    (waiting,) = [event for event in await events_of(database) if event.kind == "RUN_WAITING"]
    until_then = datetime.fromisoformat(waiting.value["until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < until_then <= timedelta(days=1)
