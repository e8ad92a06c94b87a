"""What loops and branches do."""

from __future__ import annotations

from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import RUN
from tests.unit.orchestrator.flows import AwayError, ends, go, slow_calls

# Loops.

COLOURS = """
    do:
      - loop:
          for: {each: colour, in: .colours, at: number}
          do:
            - mark:
                set:
                  colours: "${ .colours }"
                  seen: "${ (.seen // []) + [{colour: $colour, number: $number}] }"
    output: {as: .seen}
"""


def test_a_loop_goes_through_a_list_and_each_time_gets_what_the_time_before_made(stage):
    memory = go(stage, COLOURS, {"colours": ["red", "green"]})
    assert memory.ended[1] == [{"colour": "red", "number": 0}, {"colour": "green", "number": 1}]
    assert ends(memory) == [
        ("STEP_SUCCEEDED", "/do/0/loop/do/0/mark", 1),
        ("STEP_SUCCEEDED", "/do/0/loop/do/0/mark", 2),
        ("STEP_SUCCEEDED", "/do/0/loop", 1),
    ]


def test_a_loop_over_nothing_passes_on_what_it_was_given(stage):
    assert go(stage, COLOURS.replace("output: {as: .seen}", ""), {"colours": []}).ended[1] == {"colours": []}


def test_a_loop_needs_a_list(stage):
    problem = go(stage, COLOURS, {"colours": {"a": 1}}).ended[2]
    assert (problem.reason, problem.instance) == ("NOT_A_LIST", "/do/0/loop")
    assert "made an object" in problem.detail


def test_while_ends_a_loop_before_its_list_does(stage):
    body = """
        do:
          - loop:
              for: {in: "[1, 2, 3, 4]"}
              while: . < 3
              do:
                - add: {set: "${ . + $item }"}
    """
    assert go(stage, body, 0).ended[1] == 3


def test_loops_inside_loops_keep_their_own_variables_and_counts(stage):
    body = """
        do:
          - outer:
              for: {each: a, in: "[1, 2]"}
              do:
                - inner:
                    for: {each: b, in: "[10, 20]"}
                    do:
                      - add: {set: "${ . + [$a + $b] }"}
                - mark: {set: "${ . + [$a] }"}
          - after: {set: {all: "${ . }"}}
    """
    memory = go(stage, body, [])
    assert memory.ended[1] == {"all": [11, 21, 1, 12, 22, 2]}
    counts = [occurrence for _, step, occurrence in ends(memory) if step.endswith("/add")]
    assert counts == [1, 2, 3, 4]


def test_a_loop_is_held_by_the_step_budget(stage):
    body = "do: [{loop: {for: {in: '[range(100)]'}, do: [{s: {set: {x: 1}}}]}}]"
    problem = go(stage, body, budget=20).ended[2]
    assert problem.reason == "STEP_BUDGET"


def test_end_in_a_loop_ends_the_flow_and_exit_its_turn(stage):
    body = """
        do:
          - loop:
              for: {in: "[1, 2]"}
              do:
                - one: {set: "${ . + [$item] }", then: WHERE}
                - two: {set: "${ . + [0] }"}
          - after: {set: "${ . + [9] }"}
    """
    assert go(stage, body.replace("WHERE", "exit"), []).ended[1] == [1, 2, 9]
    assert go(stage, body.replace("WHERE", "end"), []).ended[1] == [1]


# Branches.


TWO = """
    do:
      - both:
          fork:
            compete: COMPETE
            branches:
              - a: {call: infer, with: {model: MODEL, inputs: {}}}
              - b: {call: connect, with: {connection: CONNECTION, operation: o}}
"""


def two(compete, model, connection):
    return TWO.replace("COMPETE", compete).replace("MODEL", model).replace("CONNECTION", connection)


def test_branches_run_at_the_same_time_and_their_outputs_keep_their_order(stage):
    order = []
    memory = go(stage, two("false", "slow", "quick"), calls=slow_calls({"slow": 10, "quick": 2}, order))
    assert memory.ended[1] == ["slow", "quick"]
    assert set(order[:2]) == {"+slow", "+quick"}
    assert order[2:] == ["-quick", "-slow"]


def test_the_first_to_end_wins_and_the_others_are_given_up(stage):
    order = []
    memory = go(stage, two("true", "slow", "quick"), calls=slow_calls({"slow": 200, "quick": 2}, order))
    assert memory.ended[1] == "quick"
    assert sorted(order) == ["+quick", "+slow", "-quick"]
    assert ("STEP_SUCCEEDED", "/do/0/both/fork/branches/0/a", 1) not in ends(memory)


def test_an_effect_under_way_is_not_torn_when_another_branch_wins(stage):
    order = []
    memory = go(stage, two("true", "quick", "slow"), calls=slow_calls({"slow": 10, "quick": 1}, order))
    assert memory.ended[1] == "quick"
    assert set(order[:2]) == {"+slow", "+quick"}
    assert order[2:] == ["-quick", "-slow"]
    assert ("STEP_SUCCEEDED", "/do/0/both/fork/branches/1/b", 1) in ends(memory)  # it happened, so it is journalled


def test_a_branch_that_fails_stops_the_others_before_their_next_step(stage):
    body = """
        do:
          - both:
              fork:
                branches:
                  - a: {call: decide, with: {decision: d}}
                  - b:
                      do:
                        - one: {call: connect, with: {connection: slow, operation: o}}
                        - two: {call: connect, with: {connection: never, operation: o}}
    """
    order = []
    calls = slow_calls({"slow": 10}, order)

    def away(_):
        raise AwayError("away")

    calls.answers = calls.answers | {"decide": away}
    memory = go(stage, body, calls=calls)
    assert memory.ended[2].reason == "AWAY"
    assert memory.ended[2].instance == "/do/0/both/fork/branches/0/a"
    assert sorted(order) == ["+d", "+slow", "-slow"]


def test_a_fork_that_failed_can_be_caught(stage):
    body = """
        do:
          - guarded:
              try:
                - both:
                    fork:
                      branches:
                        - a: {raise: {error: {type: "x:a", status: 418}}}
                        - b: {set: {x: 1}}
              catch: {as: e, do: [{s: {set: {status: "${ $e.status }"}}}]}
    """
    assert go(stage, body).ended[1] == {"status": 418}


def test_what_a_branch_exports_stays_in_the_branch(stage):
    body = """
        do:
          - first: {set: {x: 1}, export: {as: "{from: \\"before\\"}"}}
          - both:
              fork:
                branches:
                  - a:
                      do:
                        - s: {set: {x: 2}, export: {as: "{from: \\"a\\"}"}}
                        - t: {set: {saw: "${ $context.from }"}}
                  - b: {set: {saw: "${ $context.from }"}}
          - after: {set: {all: "${ . }", context: "${ $context.from }"}}
    """
    assert go(stage, body).ended[1] == {"all": [{"saw": "a"}, {"saw": "before"}], "context": "before"}


def test_a_fork_come_to_again_is_another_scope(stage):
    body = """
        do:
          - loop:
              for: {in: "[1, 2]"}
              do:
                - both:
                    fork:
                      compete: true
                      branches:
                        - a: {call: connect, with: {connection: c, operation: o, input: "${ $item }"}}
                        - b: {wait: PT1H}
    """
    calls = FakeCalls()
    memory = go(stage, body, calls=calls)
    assert memory.ended[0] == "SUCCEEDED"
    pointer = "/do/0/loop/do/0/both/fork/branches/0/a"
    assert calls.effect_keys() == [f"{RUN}{pointer}#1.1/effect", f"{RUN}{pointer}#2.1/effect"]
    scopes = [event.what.scope for event in memory.events if event.what.step == pointer and event.what.result]
    assert scopes == ["1", "2"]


def test_steps_in_branches_are_held_by_the_step_budget(stage):
    body = """
        do:
          - both:
              fork:
                branches:
                  - a: {for: {in: "[range(50)]"}, do: [{s: {set: {x: 1}}}]}
                  - b: {for: {in: "[range(50)]"}, do: [{s: {set: {x: 1}}}]}
    """
    assert go(stage, body, budget=60).ended[2].reason == "STEP_BUDGET"
    assert go(stage, body, budget=103).ended[0] == "SUCCEEDED"
