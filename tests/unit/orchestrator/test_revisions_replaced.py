"""An agent that was deleted and created again: its old runs are not gone on with in the new one's flow."""

from __future__ import annotations

import pytest

from orchestrator.agents import Agent
from orchestrator.errors import RevisionReplacedError
from tests.fakes.orchestrator_calls import FakeCalls
from tests.unit.orchestrator.workplace import AGENT, Workplace

FAILS = "do: [{a: {set: {x: 1}}}, {b: {raise: {error: {type: 'urn:x', status: 400}}}}]"
OTHER = "do: [{a: {set: {x: 1}}}, {b: {call: connect, with: {connection: c, operation: o}}}]"


@pytest.fixture
async def here(both, sandbox):
    """A run that has failed, and another agent of its agent's name."""
    calls = FakeCalls()
    made = Workplace(both[0], sandbox, calls)
    made.calls = calls
    await made.bring(FAILS)
    async with made.working():
        await made.start()
        assert (await made.ended()).state == "FAILED"
        await made.agents.delete(Agent, AGENT, "")
        await made.bring(OTHER)
        yield made


async def forget(here, run_id="r1"):
    """Make a run one of those that do not know their revision's uid."""
    await here.database.write(
        lambda transaction: transaction.exec_driver_sql(
            f"UPDATE runs SET revision_uid = NULL WHERE name = '{AGENT}/runs/{run_id}'"
        )
    )


@pytest.mark.parametrize("older", [False, True])
async def test_an_old_run_is_neither_redriven_nor_forked(here, older):
    if older:
        await forget(here)
    with pytest.raises(RevisionReplacedError):
        await here.redrive()
    with pytest.raises(RevisionReplacedError):
        await here.fork()
    assert (await here.get()).state == "FAILED"
    assert not here.calls.asked


async def test_one_that_was_redriven_all_the_same_fails(here):
    here.agents.check_revision = lambda *_: None
    await here.redrive()
    run = await here.ended()
    assert (run.state, run.problem.reason) == ("FAILED", "REVISION_REPLACED")
    assert not here.calls.asked


async def test_runs_of_the_new_agent_go_on_as_ever(here):
    assert (await here.start(run_id="r2")).revision_uid
    assert (await here.ended("r2")).state == "SUCCEEDED"
    forked = await here.fork("f1", f"{AGENT}/runs/r2")
    assert (await here.ended("f1")).state == "SUCCEEDED"
    assert forked.revision_uid == (await here.get("r2")).revision_uid


async def test_a_run_of_before_the_uid_was_noted_is_redriven_and_forked_to_a_newer_revision(both, sandbox):
    here = Workplace(both[0], sandbox, FakeCalls())
    await here.bring(FAILS)
    async with here.working():
        await here.start()
        assert (await here.ended()).state == "FAILED"
        await forget(here)
        assert (await here.redrive()).state == "QUEUED"
        assert (await here.ended()).problem.reason == ""
        await here.bring(OTHER)
        forked = await here.fork(step="/do/1/b", revision=f"{AGENT}/revisions/r2")
        assert forked.revision_uid.endswith("-2")
        assert (await here.ended("f1")).state == "SUCCEEDED"
