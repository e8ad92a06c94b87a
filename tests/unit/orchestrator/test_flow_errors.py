"""What flows do about errors: they raise them, try again, and handle what is left."""

from __future__ import annotations

import pytest

from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import Memory
from tests.unit.orchestrator.flows import AwayError, UnknownError, go

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
