"""Who goes first, who waits, and who is given up; on SQLite and PostgreSQL, with two orchestrators."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mesh.pagination import Page
from orchestrator.filter import parse_filter, parse_order
from orchestrator.problem import Problem
from orchestrator.runs import NewEvent, StepResult
from orchestrator.store import RunStore
from tests.fakes.orchestrator_journal import a_run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=5)
ROWS = RunStore()
STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "DEAD_LETTERED")


def name(run_id, agent="a", tenant="default"):
    return f"tenants/{tenant}/agents/{agent}/runs/{run_id}"


class Place:
    """One orchestrator's hold on the database."""

    def __init__(self, database, owner):
        self.database, self.owner = database, owner

    async def call(self, method, *arguments, **named):
        return await self.database.write(lambda transaction: getattr(ROWS, method)(transaction, *arguments, **named))

    async def add(self, run_id, *, agent="a", age_s=0, tenant="default", **fields):
        run = replace(a_run(name=name(run_id, agent, tenant)), create_time=NOW - timedelta(seconds=age_s), **fields)
        await self.call("add", run, "", "d")
        return run.name

    async def claim(self, limit=10, now=NOW, max_claims=10):
        leases = await self.call("claim", self.owner, now, now + LEASE, limit, (), max_claims)
        return [lease.run.name.rsplit("/", 1)[1] for lease in leases]

    async def get(self, run_id, agent="a"):
        return await self.call("get", name(run_id, agent))


@pytest.fixture
def one(both):
    return Place(both[0], "one")


@pytest.fixture
def two(both):
    return Place(both[1], "two")


async def test_a_higher_priority_goes_first_and_equal_ones_by_age(one):
    await one.add("old-low", age_s=30, priority=0)
    await one.add("older-low", age_s=40, priority=0)
    await one.add("new-high", age_s=0, priority=5)
    assert await one.claim() == ["new-high", "older-low", "old-low"]


async def test_what_waits_long_enough_goes_before_any_priority(one):
    await one.add("starving", age_s=9 * 60 + 1, priority=0)
    await one.add("urgent", priority=9)
    assert await one.claim(1) == ["starving"]


async def test_runs_that_were_begun_go_before_those_that_wait(one, two):
    await one.add("begun")
    assert await one.claim() == ["begun"]
    await one.add("urgent", priority=9)
    assert await two.claim(1, now=NOW + LEASE * 2) == ["begun"]


async def test_an_agents_limit_holds_over_two_orchestrators(one, two):
    await one.call("set_queue", "tenants/default/agents/a", paused=False, max_concurrency=3)
    for number in range(10):
        await one.add(f"r{number}")
    await one.add("free", agent="b")
    taken = await asyncio.gather(*(place.claim(2) for _ in range(8) for place in (one, two)))
    names = [run_id for some in taken for run_id in some]
    assert len(names) == len(set(names))
    assert names.count("free") == 1
    assert len(names) == 4


async def test_a_place_is_free_again_when_a_run_has_ended(one):
    await one.call("set_queue", "tenants/default/agents/a", paused=False, max_concurrency=1)
    for number in range(3):
        await one.add(f"r{number}", age_s=10 - number)
    leases = await one.call("claim", "one", NOW, NOW + LEASE, 10, ())
    assert await one.claim() == []
    await one.call("finish", leases[0], [NewEvent("RUN_SUCCEEDED")], "SUCCEEDED", 1, None, NOW)
    assert await one.claim() == ["r1"]


async def test_a_full_agent_does_not_hold_up_the_others_behind_it(one):
    await one.call("set_queue", "tenants/default/agents/a", paused=False, max_concurrency=2)
    for number in range(20):
        await one.add(f"r{number}", age_s=100)
    await one.add("b1", agent="b")
    await one.add("b2", agent="b")
    assert sorted(await one.claim(4))[:2] == ["b1", "b2"]


async def test_the_runs_of_a_paused_agent_wait_and_those_begun_go_on(one, two):
    await one.add("begun")
    await one.claim()
    await one.add("waits")
    await one.call("set_queue", "tenants/default/agents/a", paused=True, max_concurrency=0)
    assert await two.claim(now=NOW + LEASE * 2) == ["begun"]
    await one.call("set_queue", "tenants/default/agents/a", paused=False, max_concurrency=0)
    assert await one.claim() == ["waits"]


async def test_a_full_queue_says_whose_it_is(one):
    agent = "tenants/default/agents/a"
    for number in range(3):
        await one.add(f"r{number}")
        await one.add(f"r{number}", agent="b")
        await one.add(f"r{number}", tenant="other")
    assert await one.call("is_queue_full", agent, 4, 7) == ""
    assert await one.call("is_queue_full", agent, 0, 0) == ""
    assert await one.call("is_queue_full", agent, 3, 7) == agent
    assert await one.call("is_queue_full", agent, 4, 6) == "tenants/default"
    await one.claim(1)
    assert await one.call("is_queue_full", agent, 4, 6) == ""


async def test_a_run_over_which_orchestrators_fall_silent_is_given_up(one):
    await one.add("poison")
    now = NOW
    for _ in range(3):
        assert await one.claim(now=now, max_claims=3) == ["poison"]
        now += LEASE * 2
    assert await one.claim(now=now, max_claims=3) == []
    run = await one.get("poison")
    assert (run.state, run.problem.reason, run.end_time) == ("DEAD_LETTERED", "RUN_POISONOUS", now)
    events = await one.call("events", run.name, 0, 100)
    assert [event.what.kind for event in events] == ["RUN_CREATED", *["RUN_STARTED"] * 3, "RUN_DEAD_LETTERED"]
    assert events[-1].what.problem == run.problem
    assert await one.call("dead_letters") == [("tenants/default/agents/a", 1)]


async def test_a_run_that_gets_on_between_crashes_is_not_given_up(one):
    await one.add("slow")
    now = NOW
    for number in range(8):
        (lease,) = await one.call("claim", "one", now, now + LEASE, 1, (), 3)
        if number % 2:
            step = NewEvent("STEP_SUCCEEDED", "/do/0/s", number, 1, result=StepResult(1))
            await one.call("append", lease, [step], now)
        now += LEASE * 2
    assert (await one.get("slow")).state == "RUNNING"


async def test_a_run_that_is_handed_back_again_and_again_is_not_given_up(one):
    await one.add("passed-on")
    for _ in range(5):
        assert await one.claim(max_claims=2) == ["passed-on"]
        await one.call("release", "one", name("passed-on"))
    assert (await one.get("passed-on")).state == "RUNNING"


async def test_of_two_who_redrive_one_succeeds(one, two):
    await one.add("failed", priority=3)
    (lease,) = await one.call("claim", "one", NOW, NOW + LEASE, 1, ())
    problem = Problem("t", 500, "title", "detail", "/do/0/s", "WHY")
    await one.call("finish", lease, [NewEvent("RUN_FAILED", problem=problem)], "FAILED", None, problem, NOW)
    later = NOW + timedelta(hours=1)
    answers = await asyncio.gather(
        *(place.call("redrive", name("failed"), "tenants/default/principals/p", 0, later) for place in (one, two))
    )
    (run,) = [answer for answer in answers if answer is not None]
    assert (run.state, run.attempt, run.problem, run.end_time) == ("QUEUED", 2, None, None)
    kinds = [event.what.kind for event in await one.call("events", run.name, 0, 100)]
    assert kinds == ["RUN_CREATED", "RUN_STARTED", "RUN_FAILED", "RUN_REDRIVEN"]
    await one.add("before", age_s=-3600 + 179, priority=0)
    await one.add("behind", age_s=-3600 + 181, priority=0)
    assert await one.claim(now=later) == ["behind", "failed", "before"]


async def page(place, condition="", order="", size=100, agent="a"):
    term, by = parse_filter(condition, STATES), parse_order(order)
    found, cursor = [], None
    while True:
        runs, cursors = await place.call("page", f"tenants/default/agents/{agent}", Page(size, cursor), term, by)
        found += [run.name.rsplit("/", 1)[1] for run in runs[:size]]
        if len(runs) <= size:
            return found
        cursor = cursors[size - 1]


async def test_lists_are_filtered(one):
    await one.add("r1", labels={"team": "one"}, age_s=300)
    await one.add("r2", labels={"team": "two", "a/b.c": "x"}, age_s=200, priority=4)
    await one.add("r3", age_s=100)
    await one.claim(1)
    cases = {
        "": ["r1", "r2", "r3"],
        'state = "QUEUED"': ["r1", "r3"] if (await one.get("r2")).state == "RUNNING" else ["r2", "r3"],
        'labels.team = "one"': ["r1"],
        'labels.team != "one"': ["r2", "r3"],
        'NOT labels.team = "one"': ["r2", "r3"],
        "labels.team:*": ["r1", "r2"],
        "labels.a/b.c = x": ["r2"],
        'create_time >= "2026-03-01T11:56:40Z" AND create_time < "2026-03-01T13:58:20+02:00"': ["r2"],
        'create_time > "2026-03-01T11:56:40Z"': ["r3"],
        "priority >= 4": ["r2"],
        'requester = "tenants/default/principals/p"': ["r1", "r2", "r3"],
        'requester != "tenants/default/principals/p"': [],
        "end_time > 2026-01-01T00:00:00Z": [],
        "-end_time > 2026-01-01T00:00:00Z": ["r1", "r2", "r3"],
        "labels.team = one OR labels.team = two AND priority = 4": ["r2"],
        "(labels.team = one AND priority = 4) OR labels.team = two": ["r2"],
    }
    for condition, expected in cases.items():
        assert await page(one, condition) == expected, condition


async def test_lists_are_ordered_and_paged_without_loss(one):
    for number, age_s in enumerate((50, 10, 50, 30, 10)):
        await one.add(f"r{number}", age_s=age_s, priority=age_s // 10)
    for size in (1, 2, 3, 100):
        assert await page(one, size=size) == ["r0", "r1", "r2", "r3", "r4"]
        assert await page(one, order="name desc", size=size) == ["r4", "r3", "r2", "r1", "r0"]
        assert await page(one, order="create_time", size=size) == ["r0", "r2", "r3", "r1", "r4"]
        assert await page(one, order="create_time desc", size=size) == ["r4", "r1", "r3", "r2", "r0"]
        assert await page(one, order="priority desc", size=size) == ["r2", "r0", "r3", "r4", "r1"]
        assert await page(one, order="end_time", size=size) == ["r0", "r1", "r2", "r3", "r4"]


async def test_what_waits_is_counted_by_agent(one):
    await one.add("r1", age_s=10)
    await one.add("r2", age_s=20)
    await one.add("r1", agent="b")
    found = await one.call("waiting")
    rank = int((NOW - timedelta(seconds=20)).timestamp() * 1000)
    assert min(found) == ("tenants/default/agents/a", 2, rank)


async def test_claims_and_counts_read_indexes_and_never_all_runs(database):
    if not database.is_sqlite:
        pytest.skip("PostgreSQL reads a table of one row whole, whatever indexes there are")
    await Place(database, "one").add("r1")
    statements = []

    def look(connection):
        from sqlalchemy import event

        def note(_c, _cursor, statement, parameters, *_):
            statements.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        ROWS.claim(connection, "one", NOW, NOW + LEASE, 5)
        ROWS.ahead(connection, NOW)
        ROWS.is_queue_full(connection, "tenants/default/agents/a", 5, 5)
        ROWS.has_live(connection, "tenants/default/schedules/s")
        ROWS.dead_letters(connection)
        ROWS.waiting(connection)
        event.remove(connection, "before_cursor_execute", note)
        selects = [each for each in statements if each[0].startswith("SELECT") and "FROM runs" in each[0]]
        return [
            row[3]
            for statement, parameters in selects
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]

    plans = [step for step in await database.write(look) if "runs" in step]
    assert plans
    assert all("INDEX runs_" in step for step in plans), plans
