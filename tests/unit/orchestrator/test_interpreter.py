"""Going through a flow: where it goes, what each step sees, how it fails, and when it is stopped."""

from __future__ import annotations

import textwrap

import pytest

from mesh.errors import Code, InvalidError, TiationError
from mesh.sandbox import SandboxBusyError
from orchestrator.flow import parse_flow
from orchestrator.runs import Event, NewEvent
from orchestrator.steps import walk as walk_module
from tests.fakes.installed import EXAMPLE
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import NOW, RUN, Memory, a_run, carry_out


class AwayError(TiationError):
    """A callee that cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "AWAY"


def flow_of(body: str):
    text = "document: {dsl: 1.0.0, name: a}\n" + textwrap.dedent(body)
    return parse_flow(text)[0]


def go(stage, body, given=None, calls=None, budget=1000, memory=None):
    """Carry a flow out from the start; returns its memory."""
    memory = memory or Memory()
    flow = flow_of(body) if isinstance(body, str) else body
    stage.run(carry_out(flow, a_run(given), memory, calls or FakeCalls(), stage.sandbox, budget))
    return memory


def outcomes(memory):
    """What each step came to, in order."""
    return [(event.what.kind, event.what.step) for event in memory.events]


def test_the_example_runs_unchanged(stage):
    calls = FakeCalls({
        "infer": lambda given: {"label": ["refund"], "score": [0.9]},
        "decide": lambda given: {"queue": "billing", "priority": "high", "sla_hours": 4},
        "connect": lambda given: {"row_count": 1},
    })  # fmt: skip
    flow = parse_flow((EXAMPLE / "agent.yaml").read_text())[0]
    memory = go(stage, flow, {"id": "m1", "message": "my money back", "tier": "business"}, calls)
    state, output, problem = memory.ended
    assert (state, problem) == ("SUCCEEDED", None)
    assert output == {
        "ticket": "m1", "intent": "refund", "score": 0.9, "queue": "billing", "priority": "high", "sla_hours": 4,
    }  # fmt: skip
    assert [(kind, arguments) for kind, arguments, _ in calls.asked[:2]] == [
        ("infer", {"model": "support-intents", "inputs": {"text": ["my money back"]}}),
        ("decide", {"decision": "support-routing", "input": {"intent": "refund", "score": 0.9, "tier": "business"}}),
    ]
    assert calls.asked[2][1]["input"]["queue"] == "billing"
    assert calls.asked[2][2] == f"{RUN}/do/2/open-ticket#1/effect"
    assert outcomes(memory) == [
        (kind, step)
        for step in ("/do/0/understand", "/do/1/route", "/do/2/open-ticket")
        for kind in ("STEP_STARTED", "STEP_SUCCEEDED")
    ] + [("RUN_SUCCEEDED", "")]


STEER = """
    do:
      - choose:
          switch:
            - big: {when: .n > 3, then: big}
            - none: {when: .n == 0, then: end}
            - rest: {then: continue}
      - small: {set: {size: small}, then: exit}
      - big: {set: {size: big}}
    output: {as: "{it: .}"}
"""


@pytest.mark.parametrize(("n", "output"), [(9, {"size": "big"}), (1, {"size": "small"}), (0, {"n": 0})])
def test_a_switch_goes_the_way_of_the_first_case_that_holds(stage, n, output):
    assert go(stage, STEER, {"n": n}).ended == ("SUCCEEDED", {"it": output}, None)


def test_exit_leaves_its_own_list_and_end_the_whole_flow(stage):
    body = """
        do:
          - inner:
              do:
                - one: {set: {x: 1}, then: WHERE}
                - two: {set: {x: 2}}
          - after: {set: {x: "${ .x + 10 }"}}
    """
    assert go(stage, body.replace("WHERE", "exit")).ended[1] == {"x": 11}
    assert go(stage, body.replace("WHERE", "end")).ended[1] == {"x": 1}
    assert go(stage, body.replace("WHERE", "continue")).ended[1] == {"x": 12}


def test_a_step_whose_condition_does_not_hold_passes_on_what_it_was_given(stage):
    memory = go(stage, "do:\n  - s: {if: .x > 1, set: {x: 5}}\n  - t: {set: {y: '${ .x }'}}\n", {"x": 1})
    assert memory.ended[1] == {"y": 1}
    assert memory.events[0].what.result.skipped


def test_input_output_and_export_are_what_the_standard_says(stage):
    body = """
        input: {from: .order}
        do:
          - s:
              input: {from: .items}
              set: {first: "${ $input[0] }", same: "${ . == $input }"}
              output: {as: "{out: .first, given: $input}"}
              export: {as: "{saw: $output, ctx: $context}"}
          - t: {set: {all: "${ $context }", run: "${ $workflow.input.order.id }", me: "${ $task.reference }"}}
    """
    assert go(stage, body, {"order": {"id": 7, "items": ["a", "b"]}}).ended[1] == {
        "all": {"saw": {"out": "a", "given": ["a", "b"]}, "ctx": None}, "run": 7, "me": "/do/1/t",
    }  # fmt: skip


def test_expressions_do_not_see_each_others_text(stage):
    body = """
        do:
          - s: {set: {a: "${ .x # a comment }", b: ["${ 1, 2 | select(. > 1) }"], c: "}${"}}
    """
    assert go(stage, body, {"x": 3}).ended[1] == {"a": 3, "b": [2], "c": "}${"}


TRY = """
    do:
      - guarded:
          try:
            - ask: {call: decide, with: {decision: d}}
          catch:
            errors: {with: {status: 503}}
            as: problem
            do:
              - note: {set: {why: "${ $problem.reason }", at: "${ $problem.instance }"}}
      - after: {set: {then: "${ . }"}}
"""


def failing(error):
    def answer(_):
        raise error

    return FakeCalls({"decide": answer})


def test_a_caught_failure_is_seen_and_gone_on_from(stage):
    memory = go(stage, TRY, calls=failing(AwayError("nobody there")))
    assert memory.ended[1] == {"then": {"why": "AWAY", "at": "/do/0/guarded/try/0/ask"}}


def test_a_failure_of_another_kind_is_not_caught(stage):
    memory = go(stage, TRY, calls=failing(InvalidError("input", "is wrong")))
    state, _, problem = memory.ended
    assert state == "FAILED"
    assert problem.type == "https://serverlessworkflow.io/spec/1.0.0/errors/validation"
    assert (problem.status, problem.reason, problem.instance) == (400, "INVALID_FIELD", "/do/0/guarded/try/0/ask")
    assert outcomes(memory)[-2:] == [("STEP_FAILED", "/do/0/guarded/try/0/ask"), ("RUN_FAILED", "")]


def test_a_condition_on_the_problem_decides_whether_it_is_caught(stage):
    body = TRY.replace("errors: {with: {status: 503}}", 'when: $problem.detail == "nobody there"')
    assert go(stage, body, calls=failing(AwayError("nobody there"))).ended[0] == "SUCCEEDED"
    assert go(stage, body, calls=failing(AwayError("gone"))).ended[0] == "FAILED"


@pytest.mark.parametrize(
    ("body", "instance"),
    [
        ("do:\n  - s: {set: {x: '${ error(\"no\") }'}}\n", "/do/0/s"),
        ("do:\n  - s: {if: '. | error(\"no\")', do: [{t: {set: {x: 1}}}]}\n", "/do/0/s"),
        ("do:\n  - s: {do: [{t: {set: {x: 1}}}], output: {as: .x.y.z}}\n", "/do/0/s"),
        ("do:\n  - s: {set: {x: 1}}\noutput: {as: .x.y}\n", ""),
    ],
)
def test_a_failed_expression_is_a_problem_at_its_step(stage, body, instance):
    memory = go(stage, body)
    state, _, problem = memory.ended
    assert state == "FAILED"
    assert (problem.type.rsplit("/", 1)[1], problem.instance) == ("expression", instance)
    if instance:
        assert [event.what.kind for event in memory.events][-2:] == ["STEP_FAILED", "RUN_FAILED"]


def test_a_flow_that_never_ends_is_ended_by_its_budget_and_nothing_catches_that(stage):
    body = """
        do:
          - guarded:
              try:
                - again: {set: {n: 1}, then: again}
              catch: {do: [{never: {set: {n: 2}}}]}
    """
    memory = go(stage, body, budget=50)
    state, _, problem = memory.ended
    assert (state, problem.reason, problem.status) == ("FAILED", "STEP_BUDGET", 429)
    assert "50 steps" in problem.detail
    assert sum(kind == "STEP_SUCCEEDED" for kind, _ in outcomes(memory)) == 49


def test_a_step_that_loops_has_a_key_of_its_own_for_each_turn(stage):
    body = """
        do:
          - count: {set: {n: "${ (.n // 0) + 1 }"}}
          - write: {call: connect, with: {connection: c, operation: o, input: "${ .n }"}, output: {as: $input}}
          - more: {switch: [{less: {when: .n < 3, then: count}}, {enough: {then: end}}]}
    """
    calls = FakeCalls()
    memory = go(stage, body, {}, calls)
    assert memory.ended[1] == {"n": 3}
    assert [key.rsplit("/do", 1)[1] for key in calls.effect_keys()] == [f"/1/write#{n}/effect" for n in (1, 2, 3)]
    assert [arguments["input"] for _, arguments, _ in calls.asked] == [1, 2, 3]


def test_a_key_stays_within_what_is_accepted(stage):
    calls = FakeCalls()
    go(stage, f"do:\n  - {'s' * 600}: {{call: connect, with: {{connection: c, operation: o}}}}\n", calls=calls)
    (key,) = calls.effect_keys()
    assert len(key) <= 512
    assert key.startswith(RUN)
    assert key.endswith("#1/effect")


@pytest.mark.parametrize(
    ("expression", "words"),
    [('"x" * 300000', "262144 are kept"), ("reduce range(40) as $i (0; [.])", "deeper than 30")],
)
def test_a_value_that_cannot_be_kept_is_a_problem(stage, expression, words):
    state, _, problem = go(stage, f"do:\n  - s: {{set: {{x: '${{ {expression} }}'}}}}\n").ended
    assert (state, problem.reason) == ("FAILED", "RESULT_TOO_LARGE")
    assert words in problem.detail


def test_steps_without_an_effect_are_kept_with_the_next_write_and_effects_at_once(stage):
    body = "do:\n" + "".join(f"  - s{n}: {{set: {{n: {n}}}}}\n" for n in range(10))
    assert go(stage, body).writes == 1
    think = "  - t: {call: infer, with: {model: m, inputs: {x: [1]}}}\n"
    assert go(stage, body + think + think.replace("t:", "u:") + "  - last: {set: {n: 1}}\n").writes == 3
    act = "  - c: {call: connect, with: {connection: c, operation: o}}\n"
    assert go(stage, body + act + act.replace("c:", "d:", 1) + "  - last: {set: {n: 1}}\n").writes == 5


def test_an_effect_is_repeated_with_what_it_was_first_asked_even_if_time_has_passed(stage):
    body = """
        do:
          - write:
              if: (now - $workflow.input.then) < 1e9
              call: connect
              with: {connection: c, operation: o, input: "${ now }"}
    """
    given = {"then": 1e9}
    crashed = NewEvent("STEP_STARTED", "/do/0/write", 1, 1, value={"connection": "c", "operation": "o", "input": 5})
    memory = Memory([Event(1, NOW, crashed)])
    calls = FakeCalls()
    go(stage, body, {"then": -1e10}, calls, memory=memory)
    assert [arguments["input"] for _, arguments, _ in calls.asked] == [5]
    assert memory.events[1].what.attempt == 2
    fresh = FakeCalls()
    go(stage, body, given | {"then": -1e10}, fresh)
    assert fresh.asked == []  # by itself, the condition would not have held


def test_a_sandbox_without_room_is_waited_for(stage, monkeypatch):
    class Busy:
        def __init__(self):
            self.asked = 0

        async def jq(self, *_, **__):
            self.asked += 1
            if self.asked < 3:
                raise SandboxBusyError("full")
            return {"x": 1}

    monkeypatch.setattr(walk_module, "_SANDBOX_PAUSE_S", 0.001)
    busy, memory = Busy(), Memory()
    flow = flow_of("do:\n  - s: {set: {x: '${ 1 }'}}\n")
    stage.run(carry_out(flow, a_run(), memory, FakeCalls(), busy))
    assert memory.ended == ("SUCCEEDED", {"x": 1}, None)
    assert busy.asked == 3


def test_a_sandbox_that_stays_full_ends_the_step(stage, monkeypatch):
    class Busy:
        async def jq(self, *_, **__):
            raise SandboxBusyError("full")

    monkeypatch.setattr(walk_module, "_SANDBOX_TRIES_S", 0.0)
    monkeypatch.setattr(walk_module, "_SANDBOX_PAUSE_S", 0.001)
    memory = Memory()
    stage.run(carry_out(flow_of("do:\n  - s: {set: {x: '${ 1 }'}}\n"), a_run(), memory, FakeCalls(), Busy()))
    assert memory.ended[2].reason == "SANDBOX_BUSY"


def test_a_cancelled_run_ends_at_the_next_step(stage):
    memory = Memory(cancel=True)
    body = "do:\n  - c: {call: connect, with: {connection: c, operation: o}}\n  - s: {set: {x: 1}}\n"
    calls = FakeCalls()
    go(stage, body, calls=calls, memory=memory)
    assert memory.ended == ("CANCELLED", None, None)
    assert calls.asked == []
