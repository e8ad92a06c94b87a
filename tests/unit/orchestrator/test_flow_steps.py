"""What each further kind of step does: loops, branches, raised errors, retries, waits, approvals, fetches."""

from __future__ import annotations

import asyncio
import textwrap
from datetime import timedelta

import pytest

from mesh.errors import Code, TiationError
from orchestrator.errors import HttpStatusError
from orchestrator.flow import parse_flow
from orchestrator.flow.durations import seconds_of
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import NOW, RUN, Memory, a_run, carry_out


class AwayError(TiationError):
    """A callee that cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "AWAY"


class UnknownError(TiationError):
    """A call of which nobody knows whether it had its effect."""

    code = Code.UNKNOWN
    reason = "OUTCOME_UNKNOWN"


def go(stage, body, given=None, calls=None, budget=1000, memory=None):
    """Carry a flow out until it ends or is put aside; returns its memory."""
    memory = memory if memory is not None else Memory()
    flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + textwrap.dedent(body))[0]
    memory.aside = None
    stage.run(carry_out(flow, a_run(given), memory, calls or FakeCalls(), stage.sandbox, budget))
    return memory


def ends(memory):
    """The committed ends of steps, marks left out: kind, step, occurrence."""
    return [
        (event.what.kind, event.what.step, event.what.occurrence)
        for event in memory.events
        if event.what.kind in ("STEP_SUCCEEDED", "STEP_FAILED") and event.what.attempt
    ]


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


def slow_calls(waits, order):
    """Calls that take as long as `waits` says, in turns of the loop, by the model's name."""

    class Slow(FakeCalls):
        async def call(self, kind, arguments, effect_key):
            name = arguments.get("model") or arguments.get("connection") or arguments.get("decision")
            order.append(f"+{name}")
            for _ in range(waits.get(name, 0)):
                await asyncio.sleep(0.005)
            answer = await super().call(kind, arguments, effect_key)
            order.append(f"-{name}")
            return answer

    return Slow({"infer": lambda given: given["model"], "connect": lambda given: given["connection"]})


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


# Errors.

RAISE = """
    use:
      errors:
        sold-out: {type: "https://example.com/sold-out", status: 409, title: Sold out, detail: "${ .what }"}
    do:
      - fail: {raise: {error: ERROR}}
"""


def test_an_error_is_raised_as_it_is_defined(stage):
    problem = go(stage, RAISE.replace("ERROR", "sold-out"), {"what": "no ham"}).ended[2]
    assert (problem.type, problem.status) == ("https://example.com/sold-out", 409)
    assert (problem.title, problem.detail, problem.instance) == ("Sold out", "no ham", "/do/0/fail")
    inline = go(stage, RAISE.replace("ERROR", "{type: 'x:y', status: '${ .s }', instance: /here}"), {"s": 422})
    assert (inline.ended[2].type, inline.ended[2].status, inline.ended[2].instance) == ("x:y", 422, "/here")


@pytest.mark.parametrize("status", ["high", 42, True, None])
def test_what_is_no_error_cannot_be_raised(stage, status):
    memory = go(stage, RAISE.replace("ERROR", "{type: 'x:y', status: '${ .s }'}"), {"s": status})
    assert memory.ended[2].reason == "ERROR_INVALID"


# Retries.


def failing(times, error=None):
    """A decision that fails so often, then answers."""
    left = [times]

    def answer(_):
        if left[0]:
            left[0] -= 1
            raise error or AwayError("away")
        return {"done": True}

    return FakeCalls({"decide": answer})


RETRY = """
    use:
      retries:
        patient: {delay: {seconds: 20}, backoff: {exponential: {}}, limit: {attempt: {count: 3}}}
    do:
      - guarded:
          try: [{ask: {call: decide, with: {decision: d}}}]
          catch: {errors: {with: {status: 503}}, retry: RETRY, do: [{give-up: {set: {gave: up}}}]}
"""


def pauses(stage, body, calls):
    """Carry out with every wait passed; returns the waits in seconds, and the memory."""
    memory, waited = Memory(), []
    while True:
        go(stage, body, calls=calls, memory=memory)
        if memory.ended is not None:
            return waited, memory
        waited.append((memory.aside[1] - memory.now).total_seconds())
        memory.pass_time()


def test_what_fails_is_tried_again_after_growing_pauses_that_hold_nothing(stage):
    waited, memory = pauses(stage, RETRY.replace("RETRY", "patient"), failing(3))
    assert waited == [20, 40, 80]
    assert memory.ended[1] == {"done": True}
    asked = [e.what.occurrence for e in memory.events if e.what.kind == "STEP_STARTED"]
    assert asked == [1, 2, 3, 4]


def test_after_the_last_retry_the_error_is_handled(stage):
    waited, memory = pauses(stage, RETRY.replace("RETRY", "patient"), failing(9))
    assert waited == [20, 40, 80]
    assert memory.ended[1] == {"gave": "up"}


def test_after_the_last_retry_an_error_that_nothing_handles_fails_the_run(stage):
    body = RETRY.replace("RETRY", "{limit: {attempt: {count: 2}}}").replace(", do: [{give-up: {set: {gave: up}}}]", "")
    calls = failing(9)
    assert pauses(stage, body, calls)[1].ended[2].reason == "AWAY"
    assert len(calls.asked) == 3


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ("{delay: PT10S, backoff: {linear: {}}, limit: {attempt: {count: 3}}}", [10, 20, 30]),
        ("{delay: PT10S, backoff: {constant: {}}, limit: {attempt: {count: 2}}}", [10, 10]),
        ("{delay: PT10S, limit: {duration: PT25S}}", [10, 10]),
        ("{delay: PT10S, when: .status == 500}", []),
        ("{delay: PT10S, exceptWhen: .status == 503}", []),
    ],
)
def test_a_retry_policy_says_how_often_and_how_long(stage, policy, waits):
    assert pauses(stage, RETRY.replace("RETRY", policy), failing(9))[0] == waits


def test_jitter_is_between_its_ends(stage):
    policy = "{delay: PT10S, jitter: {from: PT5S, to: PT6S}, limit: {attempt: {count: 3}}}"
    waited, _ = pauses(stage, RETRY.replace("RETRY", policy), failing(9))
    assert all(15 <= each <= 16 for each in waited)
    assert len(set(waited)) > 1


def test_what_may_have_happened_is_never_blindly_tried_again(stage):
    calls = failing(9, UnknownError("who knows"))
    body = RETRY.replace("RETRY", "patient").replace("errors: {with: {status: 503}}, ", "")
    waited, memory = pauses(stage, body, calls)
    assert waited == []
    assert len(calls.asked) == 1
    assert memory.ended[1] == {"gave": "up"}


def test_except_when_lets_an_error_pass(stage):
    body = RETRY.replace("RETRY", "patient").replace("errors:", 'exceptWhen: .reason == "AWAY", errors:')
    assert pauses(stage, body, failing(1))[1].ended[2].reason == "AWAY"


# Waits.


def test_a_wait_puts_the_run_aside_until_its_moment(stage):
    body = "do: [{w: {wait: {days: 3, hours: 1}}}, {s: {set: {x: '${ . }'}}}]"
    memory = go(stage, body, {"n": 1})
    assert memory.aside == ("WAITING", NOW + timedelta(days=3, hours=1))
    assert [event.what.kind for event in memory.events] == ["STEP_WAITING", "RUN_WAITING"]
    go(stage, body, {"n": 1}, memory=memory)  # woken too early: the moment stays
    assert memory.aside == ("WAITING", NOW + timedelta(days=3, hours=1))
    memory.pass_time()
    assert go(stage, body, {"n": 1}, memory=memory).ended == ("SUCCEEDED", {"x": {"n": 1}}, None)
    assert [event.what.kind for event in memory.events].count("STEP_WAITING") == 1


def test_waits_in_branches_end_each_in_its_own_time(stage):
    body = """
        do:
          - both:
              fork:
                branches:
                  - long: {do: [{w: {wait: PT2H}}, {s: {call: connect, with: {connection: c, operation: late}}}]}
                  - short: {do: [{w: {wait: PT1H}}, {s: {call: connect, with: {connection: c, operation: early}}}]}
    """
    calls = FakeCalls({"connect": lambda given: given["operation"]})
    memory = go(stage, body, calls=calls)
    assert memory.aside == ("WAITING", NOW + timedelta(hours=1))
    memory.pass_time()
    go(stage, body, calls=calls, memory=memory)
    assert [arguments["operation"] for _, arguments, _ in calls.asked] == ["early"]
    assert memory.aside == ("WAITING", NOW + timedelta(hours=2))
    memory.pass_time()
    assert go(stage, body, calls=calls, memory=memory).ended[1] == ["late", "early"]
    assert [arguments["operation"] for _, arguments, _ in calls.asked] == ["early", "late"]


def test_a_run_is_not_put_aside_while_a_branch_is_at_work(stage):
    order = []
    body = """
        do:
          - both:
              fork:
                branches:
                  - w: {wait: PT1H}
                  - a: {call: infer, with: {model: slow, inputs: {}}}
    """
    memory = go(stage, body, calls=slow_calls({"slow": 20}, order))
    assert order == ["+slow", "-slow"]
    assert memory.aside is not None


def test_a_wait_of_no_duration_fails_the_step(stage):
    problem = go(stage, "do: [{w: {wait: '${ .x }'}}]", {"x": "soon"}).ended[2]
    assert (problem.reason, problem.instance) == ("DURATION_INVALID", "/do/0/w")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0S", 0), ("PT1.5S", 1.5), ("PT2M", 120), ("P1DT1H", 90_000), ("P2W", 1_209_600),
        ({"milliseconds": 250}, 0.25), ({"days": 1, "seconds": 1}, 86_401),
    ],
)  # fmt: skip
def test_durations_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "P", "PT", "1h", "P1Y", "PT-1S", "PT1H1H", "P1DT", "PT1,5S", "PT\u0661S", "P9999999D", "PT" + "9" * 80 + "S",
     {}, {"weeks": 1}, {"seconds": -1}, {"seconds": "1"}, {"seconds": True}, {"days": float("inf")}, 5, None, [1]],
)  # fmt: skip
def test_what_is_no_duration_is_said_so(value):
    with pytest.raises(ValueError, match=r"."):
        seconds_of(value)


# Approvals.

ASK = """
    do:
      - ask:
          call: approve
          with: {title: "Pay ${ }", data: "${ .amount }", timeout: PT1H, approvers: [boss, roles/finance]}
      - say: {set: {said: "${ .outcome }", by: "${ .by }"}}
""".replace('"Pay ${ }"', "Pay")


def test_a_run_that_asks_is_put_aside_and_goes_on_with_the_answer(stage):
    memory = go(stage, ASK, {"amount": 12})
    assert memory.aside == ("WAITING_INPUT", NOW + timedelta(hours=1))
    [approval] = memory.pending()
    assert (approval.question.title, approval.question.data) == ("Pay", 12)
    assert approval.question.approvers == ("tenants/default/principals/boss", "tenants/default/roles/finance")
    assert approval.question.options == ("approve", "reject")
    go(stage, ASK, {"amount": 12}, memory=memory)  # taken up by another process: it does not ask again
    assert len(memory.approvals) == 1
    memory.answer(approval, "reject")
    assert go(stage, ASK, {"amount": 12}, memory=memory).ended[1] == {
        "said": "reject", "by": "tenants/default/principals/boss",
    }  # fmt: skip


def test_an_approval_that_nobody_answers_is_a_timeout_that_can_be_caught(stage):
    memory = go(stage, ASK, {"amount": 1})
    memory.pass_time()
    problem = go(stage, ASK, {"amount": 1}, memory=memory).ended[2]
    assert (problem.status, problem.reason, problem.type.rsplit("/", 1)[1]) == (408, "APPROVAL_EXPIRED", "timeout")
    assert [approval.state for approval in memory.approvals.values()] == ["EXPIRED"]
    caught = """
        do:
          - guarded:
              try: [{ask: {call: approve, with: {title: Pay, timeout: PT1H}}}]
              catch: {errors: {with: {status: 408}}, do: [{s: {set: {late: true}}}]}
    """
    memory = go(stage, caught)
    memory.pass_time()
    assert go(stage, caught, memory=memory).ended[1] == {"late": True}


def test_two_questions_at_once_are_answered_each_by_itself(stage):
    body = """
        do:
          - both:
              fork:
                branches:
                  - a: {call: approve, with: {title: A}, output: {as: .outcome}}
                  - b: {call: approve, with: {title: B, options: [go, stop]}, output: {as: .outcome}}
    """
    memory = go(stage, body)
    assert memory.aside == ("WAITING_INPUT", None)
    first, second = sorted(memory.pending(), key=lambda each: each.question.title)
    memory.answer(second, "stop")
    go(stage, body, memory=memory)
    assert memory.aside == ("WAITING_INPUT", None)
    memory.answer(first, "approve")
    assert go(stage, body, memory=memory).ended[1] == ["approve", "stop"]


def test_a_question_that_lost_the_race_is_withdrawn(stage):
    body = """
        do:
          - race:
              fork:
                compete: true
                branches:
                  - ask: {call: approve, with: {title: A}}
                  - deadline: {do: [{w: {wait: PT1H}}, {s: {set: {late: true}}}]}
    """
    memory = go(stage, body)
    assert memory.aside == ("WAITING_INPUT", NOW + timedelta(hours=1))
    memory.pass_time()
    assert go(stage, body, memory=memory).ended[1] == {"late": True}
    assert [approval.state for approval in memory.approvals.values()] == ["WITHDRAWN"]


@pytest.mark.parametrize(
    "given",
    [{"title": ""}, {"title": 5}, {"options": "yes"}, {"options": ["a", "a"]}, {"options": [""]},
     {"approvers": [1]}, {"four_eyes": "yes"}, {"timeout": "soon"}, {"description": "x" * 5000}],
)  # fmt: skip
def test_a_question_that_is_none_fails_the_step(stage, given):
    asked = {"title": "t", **given}
    fields = ", ".join(f"{name}: '${{ .{name} }}'" for name in asked)
    body = "do: [{ask: {call: approve, with: {FIELDS}}}]".replace("FIELDS", fields)
    assert go(stage, body, asked).ended[2].reason == "QUESTION_INVALID"


# Fetches.


def test_a_fetch_that_changes_nothing_has_no_arguments_in_the_journal_and_others_have(stage):
    body = """
        do:
          - get: {call: http, with: {method: get, endpoint: "https://a.example/{id}/{none}"}, output: {as: "{id: 1}"}}
          - post: {call: http, with: {method: POST, endpoint: {uri: "https://a.example"}, body: "${ . }"}}
    """
    calls = FakeCalls()
    memory = go(stage, body, {"id": "a b/c"}, calls=calls)
    assert [(kind, arguments["endpoint"]) for kind, arguments, _ in calls.asked] == [
        ("http", "https://a.example/a%20b%2Fc/{none}"), ("http", "https://a.example"),
    ]  # fmt: skip
    begun = {event.what.step: event.what.value for event in memory.events if event.what.kind == "STEP_STARTED"}
    assert begun["/do/0/get"] is None
    assert begun["/do/1/post"] == {"method": "POST", "endpoint": "https://a.example", "body": {"id": 1}}


def test_a_status_that_says_no_is_an_error_of_that_status(stage):
    def answer(_):
        raise HttpStatusError("GET https://a.example answers 404", status=404)

    body = "do: [{get: {call: http, with: {method: get, endpoint: 'https://a.example'}}}]"
    problem = go(stage, body, calls=FakeCalls({"http": answer})).ended[2]
    assert (problem.status, problem.reason, problem.type.rsplit("/", 1)[1]) == (404, "HTTP_STATUS", "communication")


def test_a_timeout_of_a_fetch_is_passed_on_in_seconds(stage):
    calls = FakeCalls()
    body = """
        do:
          - ask:
              call: grpc
              with: {service: {name: a.B, host: h}, method: M, arguments: {x: "${ .x }"}}
              timeout: {after: PT3S}
    """
    go(stage, body, {"x": 1}, calls=calls)
    [(kind, arguments, _)] = calls.asked
    assert (kind, arguments["timeout"], arguments["arguments"]) == ("grpc", 3.0, {"x": 1})
