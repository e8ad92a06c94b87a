"""Any flow, cut anywhere: what comes after is what would have come, and nothing that was committed is done twice."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.errors import Code, TiationError
from orchestrator.flow import parse_flow
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import Crash, Memory, a_run, carry_out

BUDGET = 40


class RefusedError(TiationError):
    """A callee that says no."""

    code = Code.FAILED_PRECONDITION
    reason = "REFUSED"


def answer(arguments):
    """What a callee answers: always the same to the same question, and sometimes no."""
    number = arguments.get("input") or arguments.get("inputs", {}).get("x", [0])[0] or 0
    if isinstance(number, int) and number % 3 == 2:
        raise RefusedError(f"{number} is refused")
    return {"n": (number if isinstance(number, int) else 0) + 1}


N = '(if type == "object" then (.n // 0) else 0 end)'
COMMON = st.fixed_dictionaries(
    {},
    optional={
        "if": st.sampled_from([f"{N} < 3", "true", "$context != null"]),
        "export": st.just({"as": f"{{n: {N}, before: ($context.n? // 0)}}"}),
        "output": st.just({"as": f"{{n: {N}}}"}),
        "input": st.just({"from": f"{{n: ({N} + 1)}}"}),
    },
)


def calls_of(kind):
    if kind == "infer":
        return {"call": "infer", "with": {"model": "m", "inputs": {"x": [f"${{ {N} }}"]}}}
    if kind == "decide":
        return {"call": "decide", "with": {"decision": "d", "input": f"${{ {N} }}"}}
    return {"call": "connect", "with": {"connection": "c", "operation": "o", "input": f"${{ {N} }}"}}


LEAVES = st.one_of(
    st.sampled_from(["infer", "decide", "connect", "connect"]).map(calls_of),
    st.just({"set": {"n": f"${{ {N} + 1 }}"}}),
    st.just({"set": {"n": 2}}),
    st.just({"switch": [{"big": {"when": f"{N} > 4", "then": "end"}}, {"rest": {"then": "continue"}}]}),
)


@st.composite
def lists(draw, depth=2):
    """A list of steps; any of them may jump to any other of the list, so that some flows never end."""
    count = draw(st.integers(1, 3))
    names = [f"s{number}" for number in range(count)]
    steps = []
    for name in names:
        kind = draw(st.sampled_from(["leaf", "leaf", "do", "try"])) if depth else "leaf"
        if kind == "leaf":
            step = dict(draw(LEAVES))
        elif kind == "do":
            step = {"do": draw(lists(depth=depth - 1))}
        else:
            catch = draw(st.sampled_from([{}, {"errors": {"with": {"status": 400}}}, {"when": "$error.status > 500"}]))
            step = {"try": draw(lists(depth=depth - 1)), "catch": catch | {"do": draw(lists(depth=0))}}
        step |= draw(COMMON)
        then = draw(st.sampled_from([None, None, None, "continue", "exit", "end", *names]))
        steps.append({name: step | ({"then": then} if then else {})})
    return steps


@st.composite
def flows(draw):
    top = draw(st.sampled_from([{}, {"input": {"from": "{n: .n}"}}, {"output": {"as": "{result: .}"}}]))
    return {"document": {"dsl": "1.0.0", "name": "a"}, "do": draw(lists()), **top}


def told(events):
    """What a journal says, without when and without how often it was tried."""
    return [
        (event.what.kind, event.what.step, event.what.occurrence, event.what.result, event.what.problem)
        for event in events
        if event.what.kind != "STEP_STARTED"
    ]


def committed(memory):
    """The keys of the steps with a committed end."""
    ends = ("STEP_SUCCEEDED", "STEP_FAILED")
    return {(e.what.step, e.what.occurrence) for e in memory.events if e.what.kind in ends}


def called(key):
    """The step that a key belongs to."""
    pointer, _, number = key.removesuffix("/effect").rpartition("#")
    return pointer.removeprefix("tenants/default/agents/a/runs/r1"), int(number)


class Dying(FakeCalls):
    """Calls of which one kills the process: before the effect, or after it and before the answer."""

    dies_at = 0
    after = False

    async def call(self, kind, arguments, effect_key):
        if len(self.asked) + 1 == self.dies_at and not self.after:
            self.asked.append((kind, arguments, effect_key))
            raise Crash
        try:
            result = await super().call(kind, arguments, effect_key)
        except TiationError:
            if len(self.asked) == self.dies_at:
                raise Crash from None
            raise
        if len(self.asked) == self.dies_at:
            raise Crash
        return result


ANSWERS = dict.fromkeys(("infer", "decide", "connect"), answer)
RUN = a_run({"n": 0})


def resume_until_end(stage, flow, memory, calls):
    """Go on after a crash, as another process would; returns what was committed before and the calls after."""
    before, done = list(memory.events), committed(memory)
    after = FakeCalls(ANSWERS, effects=calls.effects)
    stage.run(carry_out(flow, RUN, memory, after, stage.sandbox, BUDGET))
    assert memory.events[: len(before)] == before
    assert [event.sequence for event in memory.events] == list(range(1, len(memory.events) + 1))
    assert not done & {called(key) for key in after.effect_keys()}, "a committed step was run again"
    return after


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=flows(), data=st.data())
def test_a_run_cut_at_any_write_or_call_ends_as_one_that_was_not(stage, tree, data):
    flow = parse_flow(json.dumps(tree))[0]
    whole, calls = Memory(), FakeCalls(ANSWERS)
    stage.run(carry_out(flow, RUN, whole, calls, stage.sandbox, BUDGET))
    assert whole.ended is not None

    cuts = [(n, after) for n in range(1, whole.writes + 1) for after in (False, True)]
    for number, after in data.draw(st.permutations(cuts), label="cuts")[:8]:
        memory, dying = Memory(crash_at=number, crash_after=after), FakeCalls(ANSWERS)
        with pytest.raises(Crash):
            stage.run(carry_out(flow, RUN, memory, dying, stage.sandbox, BUDGET))
        if memory.ended is None:
            resume_until_end(stage, flow, memory, dying)
        assert memory.ended == whole.ended
        assert told(memory.events) == told(whole.events)

    for number in data.draw(st.permutations(range(1, len(calls.asked) + 1)), label="calls")[:4]:
        memory, dying = Memory(), Dying(ANSWERS)
        dying.dies_at, dying.after = number, data.draw(st.booleans(), label="after")
        with pytest.raises(Crash):
            stage.run(carry_out(flow, RUN, memory, dying, stage.sandbox, BUDGET))
        resume_until_end(stage, flow, memory, dying)
        assert memory.ended == whole.ended
        assert told(memory.events) == told(whole.events)
        assert dying.effects == calls.effects, "an effect is missing, or there is one too many"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=flows(), data=st.data())
def test_a_run_cut_again_and_again_still_ends_the_same(stage, tree, data):
    flow = parse_flow(json.dumps(tree))[0]
    whole, calls = Memory(), FakeCalls(ANSWERS)
    stage.run(carry_out(flow, RUN, whole, calls, stage.sandbox, BUDGET))
    memory, effects = Memory(), {}
    for _ in range(200):
        # Two writes get through each time: that a step begins, and what it came to. One alone would be no progress.
        memory.crash_at, memory.crash_after = memory.writes + data.draw(st.integers(2, 3)), True
        try:
            stage.run(carry_out(flow, RUN, memory, FakeCalls(ANSWERS, effects=effects), stage.sandbox, BUDGET))
        except Crash:
            if memory.ended is not None:
                break
        else:
            break
    assert memory.ended == whole.ended
    assert told(memory.events) == told(whole.events)
    assert effects == calls.effects


def test_what_was_decided_by_the_clock_stays_decided(stage):
    """Conditions on time around a list, and on a caught problem, are evaluated once and kept."""
    body = {
        "document": {"dsl": "1.0.0", "name": "a"},
        "input": {"from": "{t: now, n: 2}"},
        "do": [
            {"in": {
                "if": "(now * 1000000 | floor) >= 0",
                "input": {"from": "{t: .t, u: now, n: .n}"},
                "try": [{"ask": calls_of("decide")}],
                "catch": {"when": "now > 0", "do": [{"write": calls_of("connect")}]},
            }},
        ],
    }  # fmt: skip
    flow = parse_flow(json.dumps(body))[0]
    memory = Memory(crash_at=5, crash_after=False)  # began, ended, began of `write`, then
    calls = FakeCalls({"decide": answer})
    for _ in range(10):
        before = {mark: event.what.result for event in memory.events if "#" in (mark := event.what.step)}
        with suppress(Crash):
            stage.run(carry_out(flow, RUN, memory, calls, stage.sandbox, BUDGET))
            break
    after = {mark: event.what.result for event in memory.events if "#" in (mark := event.what.step)}
    assert memory.ended is not None
    assert set(after) == {"#enter", "/do/0/in#enter", "/do/0/in#catch"}
    assert before.items() <= after.items()
    marks = [event.what.step for event in memory.events if "#" in event.what.step]
    assert len(marks) == len(set(marks))
