"""Executors at work on a real database: they share, take over, hand back, and never do a step twice."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import event

from mesh.catalogue import NotFoundError
from mesh.db import DatabaseUnavailableError
from orchestrator.executor import Executor, Limits
from orchestrator.flow import parse_flow
from orchestrator.notices import Notices
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import RUN
from tests.unit.orchestrator.executors import (
    EFFECT,
    ENDLESS,
    PLAIN,
    ROWS,
    THINK,
    Reach,
    add,
    ended,
    events_of,
    executor,
    held,
    run_of,
    until,
    working,
)


async def test_an_executor_with_nothing_to_do_asks_one_question_twice_a_second_and_writes_nothing(database, sandbox):
    asked = []

    def note(_c, _cursor, statement, *_):
        asked.append(statement)

    async with working(executor(database, sandbox, lease_s=60)):
        await asyncio.sleep(0.3)  # its first claim is over
        event.listen(database.engine, "before_cursor_execute", note)
        await asyncio.sleep(1.2)
        event.remove(database.engine, "before_cursor_execute", note)
    asked = [statement for statement in asked if "runs" in statement]
    assert 1 <= len(asked) <= 3
    assert all(statement.startswith("SELECT") for statement in asked)


async def test_a_run_is_taken_up_at_once_when_its_executor_is_woken(database, sandbox):
    own = executor(database, sandbox, lease_s=60)
    async with working(own):
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await add(database)
        own.wake()
        run = await ended(database)
        assert time.perf_counter() - began < 0.4  # without the word it would have been half a second
    assert (run.state, run.output, run.steps) == ("SUCCEEDED", {"x": 1}, 1)
    assert run.start_time is not None
    assert [event.kind for event in await events_of(database)] == [
        "RUN_CREATED", "RUN_STARTED", "STEP_SUCCEEDED", "RUN_SUCCEEDED",
    ]  # fmt: skip


async def test_a_run_is_found_without_a_word(database, sandbox):
    async with working(executor(database, sandbox)):
        await add(database)
        assert (await ended(database)).state == "SUCCEEDED"


async def test_no_more_runs_are_worked_on_than_allowed(database, sandbox):
    calls = FakeCalls(holding=asyncio.Event())
    names = await add(database, 5)
    async with working(executor(database, sandbox, EFFECT, calls, concurrent=2)):
        await asyncio.sleep(0.5)
        assert len(calls.asked) == 2
        calls.holding.set()
        for name in names:
            assert (await ended(database, name)).state == "SUCCEEDED"
    assert len(calls.effects) == 5


async def test_two_executors_share_the_work_and_do_each_step_once(database, second_database, sandbox):
    names = await add(database, 30)
    one, two = FakeCalls(), FakeCalls()
    executors = (
        executor(database, sandbox, EFFECT, one, concurrent=3),
        executor(second_database, sandbox, EFFECT, two, concurrent=3),
    )
    async with working(*executors):
        for name in names:
            assert (await ended(database, name)).state == "SUCCEEDED"
    keys = one.effect_keys() + two.effect_keys()
    assert len(keys) == len(set(keys)) == 30
    for name in names:
        kinds = [event.kind for event in await events_of(database, name)]
        assert kinds == [
            "RUN_CREATED", "RUN_STARTED", "STEP_STARTED", "STEP_SUCCEEDED", "STEP_SUCCEEDED", "RUN_SUCCEEDED",
        ]  # fmt: skip


async def test_another_executor_goes_on_where_a_silent_one_stopped(database, second_database, sandbox):
    """The first one is stuck in the second step and can write no more; what it then says is not heard."""
    await add(database)
    body = """
        do:
          - one: {call: connect, with: {connection: c, operation: first}}
          - two: {call: connect, with: {connection: c, operation: second}}
    """
    reach, stuck = Reach(database), FakeCalls(holding=asyncio.Event())
    stuck.holding.set()
    silent = executor(reach, sandbox, body, stuck)
    async with working(silent):
        stuck.holding.clear()
        await until(lambda: held(stuck, 1))
        stuck.holding.set()
        stuck.holding = asyncio.Event()
        await until(lambda: held(stuck, 2))
        reach.broken = True
        second = FakeCalls(effects=stuck.effects)
        began = time.monotonic()
        async with working(executor(second_database, sandbox, body, second)):
            run = await ended(second_database)
        assert time.monotonic() - began < 0.6 + 1.0
        reach.broken = False
        stuck.holding.set()
        await asyncio.sleep(0.2)
    assert run.state == "SUCCEEDED"
    assert second.effect_keys() == [f"{RUN}/do/1/two#1/effect"]
    events = await events_of(database)
    assert [(event.kind, event.attempt) for event in events] == [
        ("RUN_CREATED", 0), ("RUN_STARTED", 1), ("STEP_STARTED", 1), ("STEP_SUCCEEDED", 1), ("STEP_STARTED", 1),
        ("RUN_STARTED", 2), ("STEP_STARTED", 2), ("STEP_SUCCEEDED", 2), ("RUN_SUCCEEDED", 0),
    ]  # fmt: skip


async def test_a_long_step_keeps_its_run(database, second_database, sandbox):
    await add(database)
    calls, other = FakeCalls(holding=asyncio.Event()), FakeCalls()
    async with working(executor(database, sandbox, EFFECT, calls, lease_s=0.3)):
        await until(lambda: held(calls, 1))
        async with working(executor(second_database, sandbox, EFFECT, other, lease_s=0.3)):
            await asyncio.sleep(1.0)
            assert other.asked == []
            calls.holding.set()
            assert (await ended(database)).state == "SUCCEEDED"


async def test_a_run_whose_journal_cannot_be_written_is_gone_on_with_later(database, sandbox):
    reach, calls = Reach(database), FakeCalls(holding=asyncio.Event())
    names = await add(database, 2)
    async with working(executor(reach, sandbox, EFFECT, calls, lease_s=0.4)):
        await until(lambda: held(calls, 2))
        reach.broken = True
        calls.holding.set()
        await asyncio.sleep(0.3)
        assert [(await run_of(database, name)).state for name in names] == ["RUNNING", "RUNNING"]
        reach.broken = False
        for name in names:
            assert (await ended(database, name)).state == "SUCCEEDED"
    assert len(calls.effects) == 2


async def test_one_that_drains_hands_its_runs_to_the_next_at_once(database, second_database, sandbox):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    leaving = executor(database, sandbox, EFFECT, calls, lease_s=60)
    await leaving.start()
    await until(lambda: held(calls, 1))
    draining = asyncio.create_task(leaving.drain())
    await asyncio.sleep(0.05)
    assert not draining.done()
    calls.holding.set()
    await draining
    other = FakeCalls()
    async with working(executor(second_database, sandbox, EFFECT, other, lease_s=60)):
        assert (await ended(database, seconds=3)).state == "SUCCEEDED"
    assert other.asked == []  # the step under way was finished and kept
    await add(database, 3)
    leaving.wake()
    await asyncio.sleep(0.1)
    assert (await run_of(database, f"{RUN}-0")).state == "QUEUED"
    await leaving.stop()


async def test_what_was_thought_is_not_lost_when_it_is_handed_back(database, second_database, sandbox):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    leaving = executor(database, sandbox, THINK, calls, lease_s=60)
    await leaving.start()
    await until(lambda: held(calls, 1))
    draining = asyncio.create_task(leaving.drain())
    await asyncio.sleep(0.05)
    calls.holding.set()
    await draining
    other = FakeCalls()
    async with working(executor(second_database, sandbox, THINK, other, lease_s=60)):
        assert (await ended(database, seconds=3)).state == "SUCCEEDED"
    assert other.asked == []
    await leaving.stop()


async def test_one_that_is_stopped_in_the_middle_of_a_step_lets_go_of_it(database, second_database, sandbox):
    await add(database)
    calls = FakeCalls(holding=asyncio.Event())
    leaving = executor(database, sandbox, EFFECT, calls, lease_s=60)
    await leaving.start()
    await until(lambda: held(calls, 1))
    await leaving.stop()
    other = FakeCalls()
    async with working(executor(second_database, sandbox, EFFECT, other, lease_s=60)):
        assert (await ended(database, seconds=3)).state == "SUCCEEDED"
    assert other.effect_keys() == calls.effect_keys()


async def test_a_flow_that_never_ends_does_not_hold_up_the_others(database, sandbox):
    await add(database)
    async with working(executor(database, sandbox, ENDLESS, budget=300)):
        run = await ended(database)
    assert (run.state, run.problem.reason) == ("FAILED", "STEP_BUDGET")
    assert run.steps == 300


async def test_a_mistake_of_ours_ends_the_run_and_tells_nothing(database, sandbox):
    await add(database)

    def broken(_):
        raise RuntimeError("secret")

    async with working(executor(database, sandbox, EFFECT, FakeCalls({"connect": broken}))):
        run = await ended(database)
    assert (run.state, run.problem.reason) == ("DEAD_LETTERED", "INTERNAL")
    assert (await events_of(database))[-1].kind == "RUN_DEAD_LETTERED"
    assert "secret" not in run.problem.detail


async def test_a_run_without_its_revision_fails(database, sandbox):
    await add(database)

    async def flow_of(run):
        raise NotFoundError(run.revision)

    limits = Limits(concurrent_runs=1, lease_s=1, step_budget=9)
    own = Executor(database, ROWS, flow_of, lambda _: FakeCalls(), sandbox, Notices(), limits)
    async with working(own):
        run = await ended(database)
    assert (run.state, run.problem.reason) == ("FAILED", "RESOURCE_NOT_FOUND")
    assert run.problem.type.endswith("/configuration")


async def test_listeners_hear_of_every_write(database, sandbox):
    notices = Notices()
    flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + EFFECT)[0]

    async def flow_of(_):
        return flow

    calls = FakeCalls(holding=asyncio.Event())
    own = Executor(database, ROWS, flow_of, lambda _: calls, sandbox, notices, Limits(1, 60, 100))
    await add(database)
    with notices.listen(RUN) as grown:
        async with working(own):
            await asyncio.wait_for(grown.wait(), 1)
            await until(lambda: held(calls, 1))
            grown.clear()
            calls.holding.set()
            await asyncio.wait_for(grown.wait(), 1)


@pytest.mark.parametrize("body", [PLAIN, EFFECT])
async def test_many_runs_end_and_leave_nothing_behind(database, sandbox, body):
    names = await add(database, 50)
    own = executor(database, sandbox, body, concurrent=16)
    async with working(own):
        for name in names:
            assert (await ended(database, name)).state == "SUCCEEDED"
        assert own._works == {}


async def test_a_database_that_is_away_when_the_flow_is_read_pauses_the_run_and_does_not_fail_it(database, sandbox):
    await add(database)
    flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + PLAIN)[0]
    asked = []

    async def flow_of(_):
        asked.append(1)
        if len(asked) == 1:
            raise DatabaseUnavailableError("the service's database does not answer")
        return flow

    limits = Limits(8, 0.6, 1000)
    own = Executor(database, ROWS, flow_of, lambda run: FakeCalls(), sandbox, Notices(), limits)
    async with working(own):
        assert (await ended(database)).state == "SUCCEEDED"
    assert len(asked) == 2
