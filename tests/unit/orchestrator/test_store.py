"""The rows of runs: one owner at a time, an epoch on every write, one end, events without gaps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mesh.pagination import Page
from orchestrator.ends import record_of
from orchestrator.errors import LeaseLostError
from orchestrator.problem import Problem
from orchestrator.runs import NewEvent, StepResult
from orchestrator.store import RunStore
from tests.fakes.orchestrator_journal import RUN, a_run

NOW = datetime.now(UTC)
LATER = NOW + timedelta(seconds=5)
MUCH_LATER = NOW + timedelta(seconds=60)
AGENT = "tenants/default/agents/a"
STEP = NewEvent("STEP_SUCCEEDED", "/do/0/s", 1, 1, result=StepResult({"x": 1}))


@pytest.fixture
def rows():
    return RunStore()


@pytest.fixture
def at(database, rows):
    """Call a method of the store in a transaction of its own."""

    async def call(method, *arguments):
        return await database.write(lambda transaction: getattr(rows, method)(transaction, *arguments))

    return call


async def claimed(at, owner="one", now=NOW, until=LATER, limit=10):
    return await at("claim", owner, now, until, limit)


async def kinds(at, name=RUN):
    events = await at("events", name, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return [event.what.kind for event in events]


async def test_a_new_run_is_there_with_its_first_event(at):
    await at("add", a_run({"n": [1, None, "é"]}), "", "digest")
    assert await at("get", RUN) == a_run({"n": [1, None, "é"]})
    assert await kinds(at) == ["RUN_CREATED"]
    assert await at("get", RUN + "x") is None


async def test_a_run_has_one_owner_at_a_time(at):
    await at("add", a_run(), "", "d")
    (lease,) = await claimed(at)
    assert (lease.owner, lease.epoch, lease.run.state) == ("one", 1, "RUNNING")
    assert await claimed(at, "two") == []
    (taken,) = await claimed(at, "two", now=LATER + timedelta(seconds=1), until=MUCH_LATER)
    assert taken.epoch == 2
    assert await kinds(at) == ["RUN_CREATED", "RUN_STARTED", "RUN_STARTED"]


async def test_runs_are_claimed_oldest_first_and_no_more_than_asked_for(at):
    for number in (3, 1, 2):
        await at("add", replace(a_run(name=f"{AGENT}/runs/r{number}"), create_time=NOW + timedelta(number)), "", "d")
    assert [lease.run.name[-2:] for lease in await claimed(at, limit=2)] == ["r1", "r2"]
    assert [lease.run.name[-2:] for lease in await claimed(at, limit=2)] == ["r3"]


async def test_a_run_that_is_worked_on_here_is_not_claimed_again_though_its_lease_ran_out(at):
    await at("add", a_run(), "", "d")
    await claimed(at)
    assert await at("claim", "one", MUCH_LATER, MUCH_LATER + timedelta(5), 10, [RUN]) == []


async def test_one_who_lost_the_run_writes_nothing_more(at):
    await at("add", a_run(), "", "d")
    (old,) = await claimed(at)
    (new,) = await claimed(at, "two", now=MUCH_LATER)
    before = await kinds(at)
    for stale in (old, replace(old, owner="two"), replace(new, owner="one")):
        with pytest.raises(LeaseLostError):
            await at("append", stale, [STEP], NOW)
        with pytest.raises(LeaseLostError):
            await at("finish", stale, [NewEvent("RUN_SUCCEEDED")], "SUCCEEDED", 1, None, NOW)
    assert await kinds(at) == before
    assert not await at("append", new, [STEP], NOW)
    assert (await at("get", RUN)).steps == 1


async def test_a_run_ends_once(at):
    await at("add", a_run(), "", "d")
    (lease,) = await claimed(at)
    problem = Problem("t", 500, "title", "detail", "/do/0/s", "WHY")
    await at("finish", lease, [STEP, NewEvent("RUN_FAILED", problem=problem)], "FAILED", None, problem, LATER)
    run = await at("get", RUN)
    assert (run.state, run.problem, run.steps, run.end_time) == ("FAILED", problem, 1, LATER)
    with pytest.raises(LeaseLostError):
        await at("finish", lease, [NewEvent("RUN_SUCCEEDED")], "SUCCEEDED", 1, None, NOW)
    with pytest.raises(LeaseLostError):
        await at("append", lease, [STEP], NOW)
    assert await claimed(at, now=MUCH_LATER) == []
    assert (await at("request_cancel", RUN, NOW)).state == "FAILED"
    assert (await kinds(at))[-1] == "RUN_FAILED"


async def test_a_lease_is_held_by_renewing_it_and_only_by_its_owner(at):
    await at("add", a_run(), "", "d")
    await claimed(at)
    assert await at("renew", "two", [RUN], MUCH_LATER) == []
    assert await at("renew", "one", [], MUCH_LATER) == []
    assert await at("renew", "one", [RUN, RUN + "x"], MUCH_LATER) == [(RUN, False)]
    assert await claimed(at, "two", now=LATER + timedelta(seconds=1)) == []
    await at("request_cancel", RUN, NOW)
    assert await at("renew", "one", [RUN], MUCH_LATER) == [(RUN, True)]


async def test_what_is_handed_back_may_be_taken_at_once(at):
    for name in (RUN, RUN + "2"):
        await at("add", a_run(name=name), "", "d")
    (lease, _) = await claimed(at)
    await at("release", "two")
    assert await claimed(at, "two") == []
    await at("release", "one", RUN)
    assert [each.run.name for each in await claimed(at, "two")] == [RUN]
    with pytest.raises(LeaseLostError):
        await at("append", lease, [STEP], NOW)
    await at("release", "one")
    assert [each.run.name for each in await claimed(at, "three")] == [RUN + "2"]


async def test_a_run_that_waits_is_cancelled_at_once(at):
    await at("add", a_run(), "", "d")
    run = await at("request_cancel", RUN, NOW)
    assert (run.state, run.end_time) == ("CANCELLED", NOW)
    assert await kinds(at) == ["RUN_CREATED", "CANCEL_REQUESTED", "RUN_CANCELLED"]
    assert await claimed(at) == []
    assert await at("request_cancel", RUN, LATER) == run
    assert await at("request_cancel", RUN + "x", NOW) is None


async def test_a_run_at_work_hears_of_its_cancellation_with_its_next_write(at):
    await at("add", a_run(), "", "d")
    (lease,) = await claimed(at)
    assert (await at("request_cancel", RUN, NOW)).state == "RUNNING"
    assert (await at("request_cancel", RUN, NOW)).state == "RUNNING"
    assert await at("append", lease, [STEP], NOW)
    assert await kinds(at) == ["RUN_CREATED", "RUN_STARTED", "CANCEL_REQUESTED", "STEP_SUCCEEDED"]


async def test_what_is_noted_on_the_way_is_no_step(at):
    await at("add", a_run(), "", "d")
    (lease,) = await claimed(at)
    await at("append", lease, [STEP, replace(STEP, step="/do/1/s#enter", attempt=0)], NOW)
    assert (await at("get", RUN)).steps == 1


async def test_a_request_is_found_by_its_id_and_within_its_agent_only(at):
    await at("add", a_run(), "request", "digest")
    assert await at("by_request", AGENT, "request") == (a_run(), "digest")
    assert await at("by_request", AGENT + "b", "request") is None
    assert await at("digest_of", RUN) == "digest"


async def test_pages_hold_one_agents_runs_by_name(at):
    for name in ("a/runs/r2", "a/runs/r1", "a/runs/r3", "ab/runs/r1"):
        await at("add", a_run(name=f"tenants/default/agents/{name}"), "", "d")
    first, cursors = await at("page", AGENT, Page(1, None))
    assert [run.name[-2:] for run in first] == ["r1", "r2"]
    following, _ = await at("page", AGENT, Page(9, cursors[0]))
    assert [run.name[-2:] for run in following] == ["r2", "r3"]
    assert await at("live", AGENT) == 3


async def test_another_tenants_rows_are_never_reached(at, database):
    await at("add", a_run(), "", "d")
    await database.write(lambda transaction: transaction.exec_driver_sql("UPDATE runs SET tenant = 'other'"))
    assert await at("get", RUN) is None
    assert await at("page", AGENT, Page(9, None)) == ([], [])
    assert await at("tail", RUN, 0, 9) is None
    assert await at("request_cancel", RUN, NOW) is None


async def test_the_tail_is_of_one_moment(at):
    await at("add", a_run(), "", "d")
    (lease,) = await claimed(at)
    await at("append", lease, [STEP, STEP, STEP], NOW)
    state, newest, events = await at("tail", RUN, 2, 2)
    assert (state, newest, [event.sequence for event in events]) == ("RUNNING", 5, [3, 4])


async def test_two_processes_never_claim_the_same_run(database, second_database, rows):
    def add(number):
        return lambda transaction: rows.add(transaction, a_run(name=f"{AGENT}/runs/r{number}"), "", "d")

    await asyncio.gather(*(database.write(add(number)) for number in range(40)))

    async def take(own, owner):
        taken = []
        while True:
            leases = await own.write(lambda transaction: rows.claim(transaction, owner, NOW, MUCH_LATER, 3))
            if not leases:
                return taken
            taken += [lease.run.name for lease in leases]

    one, two = await asyncio.gather(take(database, "one"), take(second_database, "two"))
    assert len(one) + len(two) == len({*one, *two}) == 40


async def test_the_end_of_a_run_is_told_once_in_the_transaction_that_ends_it(database):
    ends = []
    rows = RunStore(lambda transaction, end: ends.append((transaction.in_transaction(), end)))

    async def call(method, *arguments):
        return await database.write(lambda transaction: getattr(rows, method)(transaction, *arguments))

    waiting = RUN + "-waiting"
    await call("add", a_run(), "", "d")
    await call("add", a_run(name=waiting), "", "d2")
    await call("request_cancel", waiting, LATER)
    await call("request_cancel", waiting, LATER)
    (lease,) = await call("claim", "one", NOW, LATER, 10)
    await call("append", lease, [STEP], NOW)
    assert [(end.name, end.state, end.steps) for _, end in ends] == [(waiting, "CANCELLED", 0)]
    problem = Problem.of_kind("timeout", 408, "Too late", "", "", "DEADLINE_EXCEEDED")
    await call("finish", lease, [NewEvent("RUN_FAILED")], "FAILED", None, problem, LATER)
    with pytest.raises(LeaseLostError):
        await call("finish", lease, [NewEvent("RUN_FAILED")], "FAILED", None, problem, LATER)
    assert all(inside for inside, _ in ends)
    assert len(ends) == 2
    end = ends[1][1]
    assert (end.state, end.steps, end.agent, end.requester) == ("FAILED", 1, AGENT, "tenants/default/principals/p")
    record = record_of(end)
    assert (record.what, record.code, record.reason) == ("tiation.orchestrator.v1.Run/FAILED", 4, "DEADLINE_EXCEEDED")
    assert record.duration_ns == round((LATER - a_run().create_time).total_seconds() * 1e6) * 1000
    assert record.usage == {"steps": 1}


async def test_live_runs_are_counted_by_agent_and_state(at):
    await at("add", a_run(name=f"{AGENT}/runs/r0"), "", "d0")
    await claimed(at, limit=1)
    for number in (1, 2):
        await at("add", a_run(name=f"{AGENT}/runs/r{number}"), "", f"d{number}")
    await at("add", a_run(name="tenants/acme/agents/a/runs/r"), "", "d")
    await at("request_cancel", f"{AGENT}/runs/r2", NOW)
    assert sorted(await at("live_counts", "default")) == [(AGENT, "QUEUED", 1), (AGENT, "RUNNING", 1)]
