"""How much one run may journal: a run that makes more fails, and takes no orchestrator with it."""

from __future__ import annotations

import textwrap

import pytest

from orchestrator.executor import Executor, Limits
from orchestrator.flow import parse_flow
from orchestrator.notices import Notices
from orchestrator.runs import NewEvent, StepResult
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import NOW, RUN
from tests.unit.orchestrator.executors import ROWS, add, ended, working
from tests.unit.orchestrator.workplace import Workplace

MOST = 10_000
LARGE = "x" * 3_000
ENDLESS = """
    do:
      - t:
          try: [{s: {set: "${ . }", then: s}}]
          catch: {retry: {limit: {attempt: {count: 3}}}, do: [{caught: {set: {x: 1}}}]}
    """
BRANCHES = """
    do:
      - f:
          fork:
            branches: [{a: {set: "${ . }"}}, {b: {set: "${ . }"}}, {c: {set: "${ . }"}}, {d: {set: "${ . }"}}]
    """
EFFECT = "do: [{s: {set: '${ . }'}}, {e: {call: connect, with: {connection: c, operation: o}}}]"
ASIDE = "do: [{s: {set: '${ . }'}}, {w: {wait: PT1.2S}}, {n: {set: '${ . }'}}, {m: {set: '${ . }'}}]"


def bounded(database, sandbox, body, calls=None, most=MOST):
    flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + textwrap.dedent(body))[0]

    async def flow_of(_):
        return flow

    limits = Limits(8, 0.6, 1000, max_journal_bytes=most)
    return Executor(database, ROWS, flow_of, lambda _: calls or FakeCalls(), sandbox, Notices(), limits)


async def journalled(database):
    events = await database.read(lambda transaction: ROWS.events(transaction, RUN, 0, 10_000))
    return sum(event.size for event in events)


@pytest.mark.parametrize("body", [ENDLESS, BRANCHES, ASIDE], ids=["a loop", "branches", "before and after a wait"])
async def test_a_run_that_journals_too_much_fails_and_nothing_catches_it(database, sandbox, body):
    await add(database, given=LARGE)
    async with working(bounded(database, sandbox, body)):
        run = await ended(database)
    assert (run.state, run.problem.reason, run.problem.status) == ("FAILED", "JOURNAL_FULL", 413)
    assert await journalled(database) < MOST + 2_500  # its problems and end


async def test_a_run_that_journals_less_is_let_be(database, sandbox):
    await add(database, given=LARGE)
    async with working(bounded(database, sandbox, ASIDE, most=5 * len(LARGE))):
        assert (await ended(database)).state == "SUCCEEDED"


async def test_an_effect_whose_result_has_no_room_is_not_made_again_by_a_redrive(database, sandbox):
    place = Workplace(database)
    await add(database, given=LARGE)
    calls = FakeCalls({"connect": lambda _: "y" * 8_000})
    async with working(bounded(database, sandbox, EFFECT, calls)):
        run = await ended(database)
    assert (run.state, run.problem.reason, run.problem.instance) == ("FAILED", "JOURNAL_FULL", "/do/1/e")
    await place.redrive()
    async with working(bounded(database, sandbox, EFFECT, calls, most=10 * MOST)):
        assert (await ended(database)).state == "SUCCEEDED"
    assert len(calls.asked) == 2
    assert len(calls.effects) == 1


async def test_a_journal_that_is_too_large_already_is_not_read_to_its_end(database, sandbox, monkeypatch):
    await add(database)
    (lease,) = await database.write(lambda transaction: ROWS.claim(transaction, "me", NOW, NOW, 1))
    many = [NewEvent("STEP_SUCCEEDED", "/do/0/s", at, 1, StepResult(LARGE)) for at in range(1, 501)]
    await database.write(lambda transaction: ROWS.append(transaction, lease, many, lease.run.create_time))
    await database.write(lambda transaction: ROWS.release(transaction, "me", RUN))
    read = []
    events = type(ROWS).events

    def counted(self, transaction, name, after, limit):
        found = events(self, transaction, name, after, limit)
        read.append(len(found))
        return found

    monkeypatch.setattr(type(ROWS), "events", counted)
    async with working(bounded(database, sandbox, ASIDE)):
        run = await ended(database)
    assert (run.state, run.problem.reason) == ("FAILED", "JOURNAL_FULL")
    assert sum(read) < 100
