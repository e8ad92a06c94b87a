"""What puts a run aside or goes outside: waits, approvals, fetches."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.errors import HttpStatusError
from orchestrator.flow.durations import seconds_of
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import NOW
from tests.unit.orchestrator.flows import go, slow_calls

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
