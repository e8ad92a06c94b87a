"""Runs that are cancelled: effects finish, thinking is interrupted."""

from __future__ import annotations

import asyncio

from tests.fakes.orchestrator_calls import FakeCalls
from tests.unit.orchestrator.executors import (
    EFFECT,
    THINK,
    add,
    cancel,
    ended,
    events_of,
    executor,
    held,
    run_of,
    until,
    working,
)


async def test_a_cancelled_run_finishes_its_effect_and_ends(database, sandbox):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    own = executor(database, sandbox, EFFECT, calls)
    async with working(own):
        await until(lambda: held(calls, 1))
        await cancel(database, own)
        await asyncio.sleep(0.1)
        assert (await run_of(database)).state == "RUNNING"
        calls.holding.set()
        assert (await ended(database)).state == "CANCELLED"
    assert [event.kind for event in await events_of(database)] == [
        "RUN_CREATED", "RUN_STARTED", "STEP_STARTED", "CANCEL_REQUESTED", "STEP_SUCCEEDED", "RUN_CANCELLED",
    ]  # fmt: skip


async def test_a_run_cancelled_in_its_last_step_is_cancelled(database, sandbox):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    own = executor(database, sandbox, EFFECT.replace(", {s: {set: {x: 1}}}", ""), calls)
    async with working(own):
        await until(lambda: held(calls, 1))
        await cancel(database, own)
        calls.holding.set()
        assert (await ended(database)).state == "CANCELLED"


async def test_thinking_is_interrupted_by_a_cancellation(database, sandbox):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    own = executor(database, sandbox, THINK, calls, lease_s=60)
    async with working(own):
        await until(lambda: held(calls, 1))
        await cancel(database, own)
        assert (await ended(database, seconds=1)).state == "CANCELLED"


async def test_thinking_is_interrupted_by_a_cancellation_that_another_process_was_told(
    database, second_database, sandbox
):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    async with working(executor(database, sandbox, THINK, calls, lease_s=0.6)):
        await until(lambda: held(calls, 1))
        await cancel(second_database)
        assert (await ended(database, seconds=2)).state == "CANCELLED"
