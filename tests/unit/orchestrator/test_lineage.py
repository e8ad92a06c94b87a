"""Forks and redrives: what was committed is not done again, and every effect happens once under its own key."""

from __future__ import annotations

import pytest

from mesh.catalogue import NotFoundError
from mesh.errors import InvalidError, TiationError
from orchestrator.errors import QueueFullError, RevisionIncompatibleError, RunNotRedrivableError
from orchestrator.flow import parse_flow
from orchestrator.flow.steps import walk
from orchestrator.lineage import check_compatible, standing
from orchestrator.problem import Problem
from orchestrator.runs import NewEvent, Source, StepResult
from tests.fakes.orchestrator_calls import FakeCalls
from tests.unit.orchestrator.workplace import AGENT, ASKER, HEAD, Workplace

CONNECT = "call: connect, with: {connection: c, operation: %s, input: '${ . }'}"
THREE = "do:\n" + "".join(f"  - {name}: {{{CONNECT % name}}}\n" for name in ("one", "two", "three"))


class Failing:
    """An effect that fails until it is mended; what fails has had no effect."""

    def __init__(self, *operations):
        self.failing = set(operations)
        self.error = InvalidError("input", "is not liked")

    def __call__(self, arguments):
        if arguments["operation"] in self.failing:
            raise self.error
        return {"did": arguments["operation"]}


@pytest.fixture
def failing():
    return Failing()


@pytest.fixture
async def place(both, sandbox, failing):
    made = Workplace(both[0], sandbox, FakeCalls({"connect": failing}))
    made.calls = made.executor._calls_for(None)
    async with made.working():
        yield made


def effects(place, run_id):
    return [key.removeprefix(f"{AGENT}/runs/") for key in place.calls.effect_keys() if f"/runs/{run_id}/" in key]


async def kinds(place, run_id):
    return [event.what.kind for event in await place.events(run_id)]


async def test_a_fork_does_what_comes_after_its_point_and_nothing_else(place):
    await place.bring(THREE)
    await place.start({"n": 1}, labels={"team": "one"})
    source = await place.ended()
    forked = await place.fork(step="/do/1/two")
    assert (forked.source, forked.input, forked.labels) == (Source(source.name, 4), {"n": 1}, {"team": "one"})
    run = await place.ended("f1")
    assert (run.state, run.output, run.steps) == ("SUCCEEDED", {"did": "three"}, 3)
    assert effects(place, "r1") == [f"r1/do/{at}/{step}#1/effect" for at, step in enumerate(("one", "two", "three"))]
    assert effects(place, "f1") == ["f1/do/1/two#1/effect", "f1/do/2/three#1/effect"]
    ours, theirs = await place.events("f1"), await place.events("r1")
    assert ours[:4] == theirs[:4]
    assert ours[4].what.kind == "RUN_FORKED"
    assert ours[4].what.value == {"principal": ASKER.subject, "run": source.name, "sequence": 4}
    assert await place.events("r1") == theirs


async def test_a_fork_from_the_start_may_have_another_input(place):
    await place.bring(THREE)
    await place.start({"n": 1})
    await place.ended()
    await place.fork(input={"n": 2}, replaces_input=True)
    run = await place.ended("f1")
    assert run.input == {"n": 2}
    assert len(effects(place, "f1")) == 3
    with pytest.raises(InvalidError, match="input"):
        await place.fork("f2", after_sequence=5, input={"n": 2}, replaces_input=True)


async def test_a_fork_of_a_failed_run_before_its_failure_goes_another_way(place, failing):
    failing.failing.add("two")
    await place.bring(THREE)
    await place.start()
    assert (await place.ended()).state == "FAILED"
    failing.failing.clear()
    await place.fork(step="/do/1/two")
    assert (await place.ended("f1")).state == "SUCCEEDED"
    assert effects(place, "f1") == ["f1/do/1/two#1/effect", "f1/do/2/three#1/effect"]


async def test_a_fork_in_the_middle_of_a_call_makes_the_call_anew(place):
    await place.bring(THREE)
    await place.start()
    await place.ended()
    events = await place.events()
    begun = next(event.sequence for event in events if event.what.kind == "STEP_STARTED" and "two" in event.what.step)
    await place.fork(after_sequence=begun)
    assert (await place.ended("f1")).state == "SUCCEEDED"
    assert effects(place, "f1")[0] == "f1/do/1/two#1/effect"
    started = [event.what.attempt for event in await place.events("f1") if event.what.kind == "STEP_STARTED"]
    assert started == [1, 1, 1, 1]


async def test_a_fork_can_be_forked_and_a_running_run_too(place):
    await place.bring(THREE)
    await place.start()
    await place.ended()
    await place.fork("f1", step="/do/2/three")
    await place.ended("f1")
    await place.fork("f2", source=f"{AGENT}/runs/f1", after_sequence=len(await place.events("f1")) - 3)
    assert (await place.ended("f2")).state == "SUCCEEDED"
    assert effects(place, "f2") == ["f2/do/2/three#1/effect"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"step": "/do/9/nine"}, "not come to"),
        ({"after_sequence": 999}, "events so far"),
        ({"after_sequence": 3, "step": "/do/1/two"}, "either"),
        ({"revision": "tenants/default/agents/b/revisions/r1"}, "must be one of"),
    ],
)
async def test_a_fork_from_where_there_is_nothing_is_refused(place, fields, says):
    await place.bring(THREE)
    await place.start()
    await place.ended()
    with pytest.raises(InvalidError, match=says):
        await place.fork(**fields)


async def test_a_fork_goes_on_in_another_revision_where_what_was_done_is_the_same(place):
    await place.bring(THREE)
    await place.start()
    await place.ended()
    await place.bring(THREE.replace("operation: three", "operation: better"))
    await place.bring(THREE.replace("operation: one", "operation: other"))
    await place.fork("f1", step="/do/2/three", revision=f"{AGENT}/revisions/r2")
    assert (await place.ended("f1")).output == {"did": "better"}
    with pytest.raises(RevisionIncompatibleError, match="/do/0/one"):
        await place.fork("f2", step="/do/2/three", revision=f"{AGENT}/revisions/r3")
    await place.fork("f3", revision=f"{AGENT}/revisions/r3")
    assert (await place.ended("f3")).state == "SUCCEEDED"
    with pytest.raises(TiationError, match="there is no"):
        await place.fork("f4", revision=f"{AGENT}/revisions/r9")


async def test_what_is_inside_a_step_counts_and_what_comes_after_it_does_not(place):
    body = "do:\n  - outer:\n      do:\n        - one: {{{}}}\n        - two: {{{}}}\n".format(
        CONNECT % "one", CONNECT % "two"
    )
    await place.bring(body)
    await place.start()
    await place.ended()
    await place.bring(body.replace("operation: two", "operation: better"))
    await place.bring(body.replace("operation: one", "operation: other"))
    await place.fork("f1", step="/do/0/outer/do/1/two", revision=f"{AGENT}/revisions/r2")
    assert (await place.ended("f1")).output == {"did": "better"}
    with pytest.raises(RevisionIncompatibleError):
        await place.fork("f2", step="/do/0/outer/do/1/two", revision=f"{AGENT}/revisions/r3")


async def test_a_full_queue_takes_no_fork(both):
    place = Workplace(both[0], max_queued=1)  # nobody works
    await place.bring(THREE)
    await place.start()
    with pytest.raises(QueueFullError) as caught:
        await place.fork()
    assert caught.value.violations[0].field == "tenants/default"


async def test_a_redriven_run_goes_on_at_the_failed_step_under_the_same_keys(place, failing):
    failing.failing.add("two")
    await place.bring(THREE)
    await place.start({"n": 1})
    failed = await place.ended()
    assert (failed.state, failed.problem.instance) == ("FAILED", "/do/1/two")
    failing.failing.clear()
    redriven = await place.redrive()
    assert (redriven.state, redriven.attempt, redriven.problem) == ("QUEUED", 2, None)
    run = await place.ended()
    assert (run.state, run.output, run.requester) == ("SUCCEEDED", {"did": "three"}, ASKER)
    assert effects(place, "r1") == [
        "r1/do/0/one#1/effect", "r1/do/1/two#1/effect", "r1/do/1/two#1/effect", "r1/do/2/three#1/effect",
    ]  # fmt: skip
    assert len(place.calls.effects) == 3
    assert await kinds(place, "r1") == [
        "RUN_CREATED", "RUN_STARTED", "STEP_STARTED", "STEP_SUCCEEDED", "STEP_STARTED", "STEP_FAILED", "RUN_FAILED",
        "RUN_REDRIVEN", "RUN_STARTED", "STEP_STARTED", "STEP_SUCCEEDED", "STEP_STARTED", "STEP_SUCCEEDED",
        "RUN_SUCCEEDED",
    ]  # fmt: skip
    by = (await place.events())[7].what.value
    assert by == {"principal": "tenants/default/principals/q", "undone_from": 6}


async def test_a_run_may_be_redriven_until_it_succeeds(place, failing):
    failing.failing.update({"two", "three"})
    await place.bring(THREE)
    await place.start()
    await place.ended()
    await place.redrive()
    assert (await place.ended()).problem.instance == "/do/1/two"
    failing.failing.remove("two")
    await place.redrive()
    assert (await place.ended()).problem.instance == "/do/2/three"
    failing.failing.clear()
    assert (await place.redrive()).attempt == 4
    assert (await place.ended()).state == "SUCCEEDED"
    assert len(place.calls.effects) == 3


@pytest.mark.parametrize("compete", [False, True])
async def test_a_run_that_failed_in_a_fork_goes_on_there(place, failing, compete):
    inner = f"fork: {{branches: [{{two: {{{CONNECT % 'two'}}}}}]}}"
    body = (
        "do:\n"
        f"  - one: {{{CONNECT % 'one'}}}\n"
        f"  - f: {{fork: {{compete: {str(compete).lower()}, branches: [{{g: {{{inner}}}}}]}}}}\n"
    )
    failing.failing.add("two")
    await place.bring(body)
    await place.start()
    assert (await place.ended()).state == "FAILED"
    failing.failing.clear()
    await place.redrive()
    assert (await place.ended()).state == "SUCCEEDED"
    one, *twos = effects(place, "r1")
    assert len(twos) == 2
    assert len({one, *twos}) == 2


async def test_only_what_has_failed_is_redriven(place):
    await place.bring(THREE)
    await place.start()
    await place.ended()
    with pytest.raises(RunNotRedrivableError, match="SUCCEEDED"):
        await place.redrive()


async def test_a_failure_that_was_caught_stays_caught_when_a_later_one_is_redriven(place, failing):
    failing.failing.update({"one", "three"})
    caught = "  - careful:\n      try:\n        - one: {%s}\n      catch:\n        do:\n          - two: {%s}\n"
    await place.bring("do:\n" + caught % (CONNECT % "one", CONNECT % "two") + "  - three: {%s}\n" % (CONNECT % "three"))
    await place.start()
    assert (await place.ended()).problem.instance == "/do/1/three"
    failing.failing.clear()
    await place.redrive()
    assert (await place.ended()).state == "SUCCEEDED"
    asked = [arguments["operation"] for _, arguments, _ in place.calls.asked]
    assert asked == ["one", "two", "three", "three"]


async def test_how_a_catch_looked_at_a_failure_is_undone_with_it(place, failing):
    """The failure before the redrive was none of the catch's; the one after it is."""
    failing.failing.add("one")
    inside = (
        "        - one: {%s}\n      catch:\n        when: '${ .status == 404 }'\n        do:\n          - two: {%s}\n"
    )
    await place.bring("do:\n  - careful:\n      try:\n" + inside % (CONNECT % "one", CONNECT % "two"))
    await place.start()
    assert (await place.ended()).state == "FAILED"
    failing.error = NotFoundError("one")
    await place.redrive()
    assert (await place.ended()).output == {"did": "two"}


CHOICE = """
do:
  - pick:
      switch:
        - much: {when: '${ .n > LIMIT }', then: end}
  - careful:
      try:
        - one: {set: {x: 1}}
      catch:
        errors: {with: {status: STATUS}}
        do: [{two: {set: {x: 2}}}]
"""


@pytest.mark.parametrize(
    ("done", "changes", "compatible"),
    [
        ("/do/0/pick", {"LIMIT": "5"}, True),
        ("/do/0/pick", {"LIMIT": "6"}, False),
        ("/do/0/pick", {"LIMIT": "5", "STATUS": "500"}, True),
        ("/do/1/careful", {"STATUS": "500"}, False),
        ("/do/1/careful/try/0/one", {"STATUS": "500"}, True),
    ],
)
def test_a_step_is_the_same_where_all_of_its_own_is(done, changes, compatible):
    def flow(limit="5", status="404"):
        return parse_flow(HEAD + CHOICE.replace("LIMIT", limit).replace("STATUS", status))[0]

    prefix = [NewEvent("STEP_SUCCEEDED", done, 1, 1, result=StepResult(1))]
    old, new = flow(), flow(changes.get("LIMIT", "5"), changes.get("STATUS", "404"))
    assert done in {step.pointer for step in walk(old.steps)}
    if compatible:
        check_compatible(prefix, old, new)
    else:
        with pytest.raises(RevisionIncompatibleError):
            check_compatible(prefix, old, new)


async def test_a_mistake_of_ours_is_a_dead_letter_that_can_be_redriven(place):
    answers = dict(place.calls.answers)

    def broken(_):
        raise RuntimeError("ours")

    place.calls.answers = {"connect": broken}
    await place.bring(THREE)
    await place.start()
    run = await place.ended()
    assert (run.state, run.problem.reason) == ("DEAD_LETTERED", "INTERNAL")
    place.calls.answers = answers
    await place.redrive()
    assert (await place.ended()).state == "SUCCEEDED"
    assert len(effects(place, "r1")) == 4
    assert len(place.calls.effects) == 3


STATES = {
    "RUN_CREATED": "QUEUED", "RUN_STARTED": "RUNNING", "RUN_SUCCEEDED": "SUCCEEDED", "RUN_FAILED": "FAILED",
    "RUN_CANCELLED": "CANCELLED", "RUN_DEAD_LETTERED": "DEAD_LETTERED", "RUN_REDRIVEN": "QUEUED",
    "RUN_FORKED": "QUEUED",
}  # fmt: skip


async def test_the_state_is_what_the_events_say_after_every_kind_of_new_beginning(place, failing):
    failing.failing.add("two")
    await place.bring(THREE)
    await place.start()
    await place.ended()
    await place.fork("f1", after_sequence=7)
    await place.redrive()
    failing.failing.clear()
    await place.ended("f1")
    await place.redrive("f1")
    for run_id in ("r1", "f1"):
        run = await place.ended(run_id)
        events = await place.events(run_id)
        state = ""
        for event in events:
            state = STATES.get(event.what.kind, state)
        assert run.state == state
        assert run.sequence == len(events)
        assert run.attempt == 1 + sum(event.what.kind == "RUN_REDRIVEN" for event in events)


def test_events_that_nothing_undid_all_stand():
    events = [NewEvent("RUN_CREATED"), NewEvent("STEP_FAILED", "/do/0/s", 1, 1, problem=Problem("t", 400, "t", "d"))]
    assert standing(events) == events
    undone = [*events, NewEvent("RUN_REDRIVEN", value={"principal": "p", "undone_from": 2})]
    assert [event.kind for event in standing(undone)] == ["RUN_CREATED", "RUN_REDRIVEN"]
    kept = [*events, NewEvent("RUN_REDRIVEN", value={"principal": "p", "undone_from": 0})]
    assert standing(kept) == kept
    done = NewEvent("STEP_SUCCEEDED", "/do/1/t", 1, 1, result=StepResult(1))
    assert done in standing([*events, done, undone[-1]])


async def test_a_priority_above_the_agents_highest_is_refused(both):
    from orchestrator.agents import Queue

    place = Workplace(both[0])
    await place.bring(THREE, queue=Queue(priority=2, max_priority=5))
    assert (await place.start()).priority == 2
    assert (await place.start(run_id="r2", priority=5)).priority == 5
    with pytest.raises(InvalidError, match="5 at most"):
        await place.start(run_id="r3", priority=6)


async def test_new_runs_follow_the_traffic_and_keep_their_revision(both):
    from orchestrator.traffic import Target

    place = Workplace(both[0])
    await place.bring(THREE)
    await place.bring(THREE, traffic=(Target(1, 100),))
    assert (await place.start()).revision.endswith("/r1")
    await place.bring(THREE)
    assert (await place.start(run_id="r2")).revision.endswith("/r1")
    await place.bring(THREE, traffic=())
    assert (await place.start(run_id="r3")).revision.endswith("/r4")
    with pytest.raises(InvalidError, match="make 50"):
        await place.bring(THREE, traffic=(Target(1, 50),))
