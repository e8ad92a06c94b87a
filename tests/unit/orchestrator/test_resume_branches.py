"""Flows with loops, branches, waits, retries and questions, cut anywhere: they end as if they had not been cut.

Branches get on in any order, so what is compared is what each coming to each step was committed with, and the end.
"""

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

BUDGET = 400
RUN = a_run({"n": 0})
N = '(if type == "object" then (.n // 0) elif type == "array" then length else 0 end)'


class AwayError(TiationError):
    """A callee that cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "AWAY"


class Callees(FakeCalls):
    """Callees that answer the same to the same key; `decide` is away whenever it is asked an odd time."""

    async def call(self, kind, arguments, effect_key):
        if kind == "decide" and int(effect_key.removesuffix("/effect").rpartition("#")[2].split(".")[-1]) % 2:
            self.asked.append((kind, arguments, effect_key))
            raise AwayError("away")
        return await super().call(kind, arguments, effect_key)


ANSWERS = {
    "connect": lambda given: {"n": given["input"] + 1},
    "infer": lambda given: {"n": given["inputs"]["x"][0] + 1},
    "decide": lambda given: {"n": 7},
}
LEAVES = st.sampled_from([
    {"call": "connect", "with": {"connection": "c", "operation": "o", "input": f"${{ {N} }}"}},
    {"call": "connect", "with": {"connection": "c", "operation": "p", "input": f"${{ {N} }}"}},
    {"call": "infer", "with": {"model": "m", "inputs": {"x": [f"${{ {N} }}"]}}},
    {"set": {"n": f"${{ {N} + 1 }}"}, "export": {"as": f"{{n: {N}, before: ($context.n? // 0)}}"}},
    {"set": {"n": "${ $context.n? // 5 }"}},
    {"wait": "PT1H"},
    {"wait": {"minutes": 90}},
    {"call": "approve", "with": {"title": "go on?", "data": f"${{ {N} }}"}, "output": {"as": "{n: 6}"}},
    {
        "try": [{"ask": {"call": "approve", "with": {"title": "soon?", "timeout": "PT2H"}}}],
        "catch": {"errors": {"with": {"status": 408}}, "do": [{"late": {"set": {"n": 3}}}]},
    },
])  # fmt: skip
QUICK = LEAVES.filter(lambda step: "wait" not in step and "approve" not in json.dumps(step))


@st.composite
def steps(draw, depth=2):
    """A list of steps; none of them fails for good, or which branch fails first would be chance."""
    made = []
    for number in range(draw(st.integers(1, 2))):
        kind = (
            draw(st.sampled_from(["leaf", "leaf", "do", "for", "fork", "race", "retry", "raise"])) if depth else "leaf"
        )
        match kind:
            case "leaf":
                step = dict(draw(LEAVES))
            case "do":
                step = {"do": draw(steps(depth=depth - 1)), "if": draw(st.sampled_from(["true", f"{N} < 3"]))}
            case "for":
                step = {"for": {"in": "[1, 2]"}, "while": f"{N} < 6", "do": draw(steps(depth=depth - 1))}
            case "fork":
                count = draw(st.integers(1, 3))
                step = {"fork": {"branches": [{f"b{at}": {"do": draw(steps(depth=depth - 1))}} for at in range(count)]}}
            case "race":
                quick = {"quick": dict(draw(QUICK))}
                slow = {"slow": {"do": [{"w": {"wait": "P9D"}}, {"never": {"set": {"n": 99}}}]}}
                step = {"fork": {"compete": True, "branches": draw(st.permutations([quick, slow]))}}
            case "retry":
                ask = {"ask": {"call": "decide", "with": {"decision": "d"}}}
                catch = {
                    "retry": {"delay": "PT3H", "limit": {"attempt": {"count": 2}}},
                    "do": [{"no": {"set": {"n": 0}}}],
                }
                step = {"try": [ask], "catch": catch}
            case _:
                error = {"type": "x:y", "status": 418}
                catch = {"as": "e", "do": [{"handle": {"set": {"n": "${ $e.status % 5 }"}}}]}
                step = {"try": [{"fail": {"raise": {"error": error}}}], "catch": catch}
        made.append({f"s{number}": step})
    return made


def until_end(stage, flow, memory, calls):
    """Go on with a run, passing time and answering, as the world does while it waits."""
    for _ in range(60):
        if memory.aside is None:
            stage.run(carry_out(flow, RUN, memory, calls, stage.sandbox, BUDGET))
        if memory.ended is not None:
            return
        if memory.aside is None:
            continue
        pending = sorted(memory.pending(), key=lambda each: (each.key, each.question.title))
        patient = [each for each in pending if each.question.until is None]
        if patient:
            memory.answer(patient[0], "approve" if len(patient[0].key.pointer) % 2 else "reject")
        else:
            memory.pass_time()
    raise AssertionError("it never ends")


def committed(memory):
    """What each step was committed with, by its key; the answers' moments differ with the order of the branches."""
    found = {}
    for event in memory.events:
        if event.what.kind in ("STEP_SUCCEEDED", "STEP_FAILED"):
            assert event.what.key not in found, "committed twice"
            found[event.what.key] = event.what.result or event.what.problem
    return found


def key_of(effect_key):
    """The key that an effect key was made of."""
    pointer, _, often = effect_key.removesuffix("/effect").rpartition("#")
    scope, _, occurrence = often.rpartition(".")
    return scope, pointer.removeprefix(RUN.name), int(occurrence)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=steps(), data=st.data())
def test_a_run_with_branches_cut_at_any_write_ends_as_one_that_was_not(stage, tree, data):
    flow = parse_flow(json.dumps({"document": {"dsl": "1.0.0", "name": "a"}, "do": tree}))[0]
    whole, calls = Memory(), Callees(ANSWERS)
    until_end(stage, flow, whole, calls)
    assert whole.ended[0] == "SUCCEEDED", whole.ended

    cuts = [(n, after) for n in range(1, whole.writes + 1) for after in (False, True)]
    for number, after in data.draw(st.permutations(cuts), label="cuts")[:8]:
        memory, dying = Memory(crash_at=number, crash_after=after), Callees(ANSWERS)
        with suppress(Crash):
            until_end(stage, flow, memory, dying)
        before, done = list(memory.events), set(committed(memory))
        following = Callees(ANSWERS, effects=dying.effects)
        if memory.ended is None:
            until_end(stage, flow, memory, following)
        assert memory.events[: len(before)] == before
        assert not done & {key_of(key) for key in following.effect_keys()}, "a committed step was run again"
        assert memory.ended[:2] == whole.ended[:2]
        assert following.effects.items() >= calls.effects.items()
        assert {key for key in committed(memory) if "#" not in key.pointer} == {
            key for key in committed(whole) if "#" not in key.pointer
        }


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=steps(), data=st.data())
def test_a_run_with_branches_cut_again_and_again_still_ends_the_same(stage, tree, data):
    flow = parse_flow(json.dumps({"document": {"dsl": "1.0.0", "name": "a"}, "do": tree}))[0]
    whole = Memory()
    until_end(stage, flow, whole, Callees(ANSWERS))
    memory, effects = Memory(), {}
    for _ in range(300):
        memory.crash_at, memory.crash_after = memory.writes + data.draw(st.integers(2, 4)), True
        with suppress(Crash):
            until_end(stage, flow, memory, Callees(ANSWERS, effects=effects))
        if memory.ended is not None:
            break
    assert memory.ended[:2] == whole.ended[:2]
    committed(memory)


def test_a_race_that_was_decided_is_not_run_again(stage):
    """What the winner did not wait for is cut off for good, also for whoever goes on with the run."""
    body = {
        "document": {"dsl": "1.0.0", "name": "a"},
        "do": [
            {"race": {"fork": {"compete": True, "branches": [
                {"slow": {"do": [{"w": {"wait": "PT1H"}}, {"s": {"set": {"outcome": "slow"}}}]}},
                {"ask": {"call": "approve", "with": {"title": "which?"}}},
            ]}}},
            {"pause": {"wait": "PT5H"}},
            {"after": {"set": {"winner": "${ .outcome }"}}},
        ],
    }  # fmt: skip
    flow = parse_flow(json.dumps(body))[0]
    memory, calls = Memory(), FakeCalls()
    stage.run(carry_out(flow, RUN, memory, calls, stage.sandbox, BUDGET))
    memory.answer(memory.pending()[0], "approve")
    stage.run(carry_out(flow, RUN, memory, calls, stage.sandbox, BUDGET))
    memory.pass_time()  # by now the other branch's hour is over as well
    stage.run(carry_out(flow, RUN, memory, calls, stage.sandbox, BUDGET))
    assert memory.ended == ("SUCCEEDED", {"winner": "approve"}, None)
    ended = [event.what.step for event in memory.events if event.what.kind == "STEP_SUCCEEDED"]
    assert not [step for step in ended if "/slow/" in step]


@pytest.mark.parametrize("crash_at", range(1, 6))
def test_a_question_is_asked_once_however_often_the_run_is_gone_on_with(stage, crash_at):
    body = {"document": {"dsl": "1.0.0", "name": "a"}, "do": [{"ask": {"call": "approve", "with": {"title": "t"}}}]}
    flow = parse_flow(json.dumps(body))[0]
    memory = Memory(crash_at=crash_at)
    while memory.ended is None:
        with suppress(Crash):
            until_end(stage, flow, memory, FakeCalls())
    assert memory.ended[0] == "SUCCEEDED"
    assert len(memory.approvals) == 1
    kinds = [event.what.kind for event in memory.events]
    assert kinds.count("INPUT_REQUESTED") == kinds.count("INPUT_RECEIVED") == 1
