"""Runs that wait, with real executors on a real database: who wakes them, how precisely, what they hold meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from mesh.catalogue import AlreadyExistsError, NotFoundError
from mesh.identity import Caller
from mesh.pagination import Page
from orchestrator.answering import Answering, Submission
from orchestrator.errors import (
    ApprovalAnsweredError,
    ApprovalExpiredError,
    ApprovalsManyError,
    ApprovalWithdrawnError,
    FourEyesError,
    NotAnApproverError,
    OutcomeInvalidError,
)
from orchestrator.runs import ENDED, NewEvent
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import RUN
from tests.unit.orchestrator import executors
from tests.unit.orchestrator.executors import ROWS, add, events_of, in_state, journal_of, working

TENANT = "tenants/default"
REQUESTER = f"{TENANT}/principals/p"
BOSS = f"{TENANT}/principals/boss"
FIRST = Page(50, None)
ASK = "do: [{ask: {call: approve, with: {title: Pay, description: now, data: {n: 1}}}}]"
executor = partial(executors.executor, lease_s=60.0)  # a run that waits must not depend on its lease's end


def moment(events, kind):
    return next(event.time for event in events if event.what.kind == kind)


async def test_a_wait_is_put_aside_and_ends_on_time(database, sandbox):
    own = executor(database, sandbox, "do: [{w: {wait: PT2S}}, {s: {set: {x: 1}}}]")
    async with working(own):
        await add(database)
        own.wake()
        await in_state(database, "WAITING")
        assert not own._works  # nothing is held
        await in_state(database, "SUCCEEDED")
    events = await journal_of(database)
    assert [event.what.kind for event in events] == [
        "RUN_CREATED", "RUN_STARTED", "STEP_WAITING", "RUN_WAITING", "RUN_STARTED",
        "STEP_SUCCEEDED", "STEP_SUCCEEDED", "RUN_SUCCEEDED",
    ]  # fmt: skip
    due = datetime.fromisoformat(next(e.what.value["until"] for e in events if e.what.kind == "STEP_WAITING"))
    assert timedelta(0) <= moment(events, "RUN_SUCCEEDED") - due < timedelta(seconds=1)


async def test_waits_in_branches_wake_the_run_each_in_its_own_time(database, sandbox):
    body = """
do:
  - both:
      fork:
        branches:
          - a: {do: [{w: {wait: PT1.5S}}, {s: {call: connect, with: {connection: a, operation: o}}}]}
          - b: {do: [{w: {wait: PT3S}}, {s: {call: connect, with: {connection: b, operation: o}}}]}
"""
    own = executor(database, sandbox, body)
    async with working(own):
        await add(database)
        own.wake()
        await in_state(database, "SUCCEEDED")
    events = await journal_of(database)
    until = [datetime.fromisoformat(e.what.value["until"]) for e in events if e.what.kind == "STEP_WAITING"]
    ended = [event.time for event in events if event.what.kind == "STEP_SUCCEEDED" and event.what.step.endswith("/s")]
    assert len(until) == len(ended) == 2
    assert all(timedelta(0) <= at - due < timedelta(seconds=1) for due, at in zip(until, ended, strict=True))
    assert [event.what.kind for event in events].count("RUN_WAITING") == 2


async def test_another_executor_wakes_what_a_dead_one_put_aside(database, second_database, sandbox):
    body = "do: [{w: {wait: PT1.5S}}, {s: {set: {x: 1}}}]"
    first = executor(database, sandbox, body)
    async with working(first):
        await add(database)
        first.wake()
        await in_state(database, "WAITING")
    async with working(executor(second_database, sandbox, body)):
        assert (await in_state(database, "SUCCEEDED")).output == {"x": 1}
    events = await journal_of(database)
    due = datetime.fromisoformat(next(e.what.value["until"] for e in events if e.what.kind == "STEP_WAITING"))
    assert moment(events, "RUN_SUCCEEDED") - due < timedelta(seconds=1)


async def test_a_run_that_waits_is_cancelled_at_once(database, sandbox):
    own = executor(database, sandbox, "do: [{w: {wait: P30D}}]")
    async with working(own):
        await add(database)
        own.wake()
        await in_state(database, "WAITING")
        run = await database.write(lambda transaction: ROWS.request_cancel(transaction, RUN, datetime.now(UTC)))
    assert run.state == "CANCELLED"
    assert run.end_time is not None


async def test_a_run_cancelled_while_it_is_being_put_aside_ends(database, sandbox):
    """Whatever reaches a run between its last look and its being put aside queues it again."""
    async with working(executor(database, sandbox, "do: [{w: {wait: P30D}}]")):
        await add(database)
        await in_state(database, "WAITING")
    now = datetime.now(UTC)
    later = now + timedelta(days=1)
    await database.write(lambda transaction: ROWS.wake(transaction, now + timedelta(days=40)))
    [lease] = await database.write(lambda transaction: ROWS.claim(transaction, "me", now, later, 1, ()))
    await database.write(lambda transaction: ROWS.request_cancel(transaction, RUN, now))
    aside = [NewEvent("RUN_WAITING")]
    await database.write(lambda transaction: ROWS.put_aside(transaction, lease, aside, "WAITING", later, now))
    assert (await in_state(database, "QUEUED")).cancel_requested


async def test_a_wait_of_a_moment_is_not_worth_putting_aside(database, sandbox):
    own = executor(database, sandbox, "do: [{w: {wait: PT0.2S}}]")
    async with working(own):
        await add(database)
        own.wake()
        await in_state(database, "SUCCEEDED")
    assert "RUN_WAITING" not in [event.kind for event in await events_of(database)]


async def test_an_executor_that_drains_hands_back_what_waits_in_memory(database, sandbox):
    body = """
do:
  - both:
      fork:
        branches:
          - w: {wait: PT1H}
          - a: {call: connect, with: {connection: c, operation: o}}
"""
    calls = FakeCalls(holding=asyncio.Event())
    own = executor(database, sandbox, body, calls)
    async with working(own):
        await add(database)
        own.wake()
        while not calls.asked:
            await asyncio.sleep(0.01)
        draining = asyncio.create_task(own.drain())
        await asyncio.sleep(0.05)
        calls.holding.set()
        async with asyncio.timeout(4):
            await draining
    assert (await in_state(database, "RUNNING", "WAITING")).state == "RUNNING"
    async with working(executor(database, sandbox, body)):
        await in_state(database, "WAITING")


# Approvals.


def caller(subject=BOSS, role=""):
    return Caller("default", subject, "spiffe://t/svc/gateway", role=role)


def submission(outcome="approve", approval="", run=RUN, **more):
    fields = {"comment": "", "data": None, "request_id": "", "digest": f"{outcome}{more}"} | more
    return Submission(run, approval, outcome, **fields)


class Office:
    """Somebody who answers, beside an executor."""

    def __init__(self, database, executor):
        self.answering = Answering(database, ROWS, executor.hear)

    async def answer(self, *args, who=None, roles=(), **more):
        return await self.answering.submit(submission(*args, **more), who or caller(), lambda role: role in roles)

    async def listed(self, *, show_all=False):
        return await self.answering.page(TENANT, "", FIRST, show_all=show_all)


@asynccontextmanager
async def asked(database, sandbox, body=ASK):
    """A run that waits for an answer."""
    own = executor(database, sandbox, body)
    async with working(own):
        await add(database)
        own.wake()
        await in_state(database, "WAITING_INPUT")
        yield Office(database, own)


async def test_an_answer_wakes_the_run_and_is_journalled_with_who_gave_it(database, sandbox):
    async with asked(database, sandbox) as office:
        [approval] = await office.listed()
        assert (approval.state, approval.question.title, approval.question.data) == ("PENDING", "Pay", {"n": 1})
        assert approval.requester == REQUESTER
        answered = await office.answer("approve", comment="fine", data={"limit": 5})
        assert answered.state == "ANSWERED"
        run = await in_state(database, "SUCCEEDED")
        assert {name: run.output[name] for name in ("outcome", "by", "comment", "data")} == {
            "outcome": "approve", "by": BOSS, "comment": "fine", "data": {"limit": 5},
        }  # fmt: skip
        assert await office.listed() == []
    [received] = [event for event in await events_of(database) if event.kind == "INPUT_RECEIVED"]
    assert (received.step, received.value["by"], received.value["outcome"]) == ("/do/0/ask", BOSS, "approve")


async def test_one_answer_counts_and_the_next_is_told_who_was_faster(database, sandbox):
    async with asked(database, sandbox) as office:
        tries = await asyncio.gather(
            *(office.answer("approve", comment=str(number)) for number in range(5)), return_exceptions=True
        )
        assert sum(isinstance(each, ApprovalAnsweredError) for each in tries) == 4
        assert "by tenants/default/principals/boss already" in str(next(t for t in tries if isinstance(t, Exception)))
        await in_state(database, "SUCCEEDED")
    kinds = [event.kind for event in await events_of(database)]
    assert kinds.count("INPUT_RECEIVED") == 1


async def test_the_same_request_again_returns_the_first_answer(database, sandbox):
    async with asked(database, sandbox) as office:
        first = await office.answer("reject", request_id="r1")
        await in_state(database, "SUCCEEDED")
        assert await office.answer("reject", request_id="r1") == first
        with pytest.raises(AlreadyExistsError):
            await office.answer("approve", request_id="r1")
        with pytest.raises(AlreadyExistsError):
            await office.answer("reject", request_id="r1", who=caller(REQUESTER))


async def test_an_answer_that_is_none_of_the_options_is_refused(database, sandbox):
    async with asked(database, sandbox) as office:
        with pytest.raises(OutcomeInvalidError, match="it may be approve, reject"):
            await office.answer("perhaps")
        with pytest.raises(NotFoundError):
            await office.answer("approve", approval="another")
        with pytest.raises(NotFoundError):
            await office.answer("approve", run=f"{RUN}-unknown")
        await in_state(database, "WAITING_INPUT")


async def test_four_eyes_and_approvers_decide_who_may_answer(database, sandbox):
    body = (
        "do: [{ask: {call: approve, with: "
        "{title: Pay, four_eyes: true, approvers: [boss, p, roles/finance]}}}]"
    )  # fmt: skip
    async with asked(database, sandbox, body) as office:
        with pytest.raises(FourEyesError):
            await office.answer(who=caller(REQUESTER))
        with pytest.raises(NotAnApproverError, match="roles/finance"):
            await office.answer(who=caller(f"{TENANT}/principals/other"))
        with pytest.raises(NotAnApproverError):
            await office.answer(who=caller(f"{TENANT}/principals/other"), roles=(f"{TENANT}/roles/another",))
        done = await office.answer(who=caller(f"{TENANT}/principals/other"), roles=(f"{TENANT}/roles/finance",))
        assert done.answer.by == f"{TENANT}/principals/other"
        await in_state(database, "SUCCEEDED")


async def test_after_its_time_nobody_can_answer_and_the_step_fails(database, sandbox):
    body = ASK.replace("title: Pay", "title: Pay, timeout: PT1.5S")
    async with asked(database, sandbox, body) as office:
        run = await in_state(database, *ENDED)
        assert (run.state, run.problem.reason, run.problem.status) == ("FAILED", "APPROVAL_EXPIRED", 408)
        with pytest.raises(ApprovalExpiredError):
            await office.answer()
        [approval] = await office.listed(show_all=True)
        assert approval.state == "EXPIRED"


async def test_after_a_cancellation_nobody_waits_for_the_answer(database, sandbox):
    async with asked(database, sandbox) as office:
        await database.write(lambda transaction: ROWS.request_cancel(transaction, RUN, datetime.now(UTC)))
        await in_state(database, "CANCELLED")
        with pytest.raises(ApprovalWithdrawnError):
            await office.answer()
        assert await office.listed() == []
        assert [each.state for each in await office.listed(show_all=True)] == ["WITHDRAWN"]


async def test_questions_of_one_run_are_answered_each_by_its_own_id(database, sandbox):
    body = """
do:
  - both:
      fork:
        branches:
          - a: {call: approve, with: {title: A}, output: {as: .outcome}}
          - b: {call: approve, with: {title: B}, output: {as: .outcome}}
"""
    async with asked(database, sandbox, body) as office:
        with pytest.raises(ApprovalsManyError):
            await office.answer()
        ids = {each.question.title: each.name.rsplit("/", 1)[1] for each in await office.listed()}
        await office.answer("reject", approval=ids["B"])
        await in_state(database, "WAITING_INPUT")
        with pytest.raises(ApprovalAnsweredError):
            await office.answer("approve", approval=ids["B"])
        await office.answer("approve", approval=ids["A"])
        assert (await in_state(database, "SUCCEEDED")).output == ["approve", "reject"]


async def test_an_answer_reaches_a_run_of_which_another_branch_is_at_work(database, second_database, sandbox):
    """Also when it comes to another process, which can tell nobody."""
    body = """
do:
  - both:
      fork:
        branches:
          - a:
              do:
                - ask: {call: approve, with: {title: A}}
                - e: {call: connect, with: {connection: c, operation: o}}
          - b: {call: infer, with: {model: m, inputs: {}}}
"""
    calls = FakeCalls(holding=asyncio.Event())
    own = executor(database, sandbox, body, calls)
    async with working(own):
        await add(database)
        own.wake()
        elsewhere = Answering(second_database, ROWS, lambda run: None)
        async with asyncio.timeout(8):
            while not await elsewhere.page(TENANT, "", FIRST, show_all=False):
                await asyncio.sleep(0.01)
            await elsewhere.submit(submission(), caller(), lambda role: False)
            while len(calls.asked) < 2:  # the branch goes on though the other one still thinks
                await asyncio.sleep(0.01)
        calls.holding.set()
        await in_state(database, "SUCCEEDED")


async def test_hundreds_of_runs_that_wait_for_days_hold_nothing_and_cost_nothing(database, sandbox):
    own = executor(database, sandbox, "do: [{w: {wait: P30D}}]")
    names = await add(database, 300)
    async with working(own):
        for name in names:
            await in_state(database, "WAITING", name=name, seconds=60)
        assert not own._works
        now = datetime.now(UTC)
        ahead = await database.read(lambda transaction: ROWS.ahead(transaction, now))
        assert ahead.wake_time > now + timedelta(days=29)
        assert not ahead.unheld
