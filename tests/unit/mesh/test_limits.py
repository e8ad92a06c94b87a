"""Limits: buckets, calls under way, whom they count for, and what they cost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.call import Call
from mesh.errors import Code
from mesh.identity import Caller
from mesh.snapshot import Limits
from mesh.stages.limits import LimitStage, RateLimitedError

NONE = Limits()


class Of:
    """Everybody has the same limits."""

    def __init__(self, own: Limits | None = None, total: Limits | None = None) -> None:
        self.own, self.total = own, total

    def limits_of(self, subject: str, tenant: str) -> tuple[Limits | None, Limits | None]:
        return self.own, self.total


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def call(who: str = "ada", *, for_run: bool = False, tenant: str = "acme") -> Call:
    """A call of somebody with a token, or of a run for them."""
    made = Call(None, None, {}, "u", 0, 0)
    made.caller = Caller(tenant, f"tenants/{tenant}/principals/{who}", "peer", token_id="" if for_run else "t")
    return made


def test_calls_at_the_same_time_are_limited_and_let_go():
    stage = LimitStage(lambda: Of(Limits(concurrent_calls=2)), NONE, NONE)
    first = call()
    stage.enter(first)
    stage.enter(call())
    with pytest.raises(RateLimitedError) as caught:
        stage.enter(call())
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    stage.enter(call("bob"))
    stage.leave(first)
    stage.leave(first)
    stage.enter(call())
    with pytest.raises(RateLimitedError):
        stage.enter(call())


def test_a_runs_own_calls_and_a_services_are_not_counted():
    stage = LimitStage(lambda: Of(Limits(1, 1, 1), Limits(1, 1, 1)), NONE, NONE)
    for _ in range(10):
        stage.enter(call(for_run=True))
    stage.enter(call())
    with pytest.raises(RateLimitedError):
        stage.enter(call())


def test_a_refused_call_uses_nothing_up():
    clock = Clock()
    policy = Of(Limits(10, 10), Limits(1, 1))
    stage = LimitStage(lambda: policy, NONE, NONE, clock)
    stage.enter(call())
    for _ in range(50):
        with pytest.raises(RateLimitedError):
            stage.enter(call())
    policy.total = None
    for _ in range(9):
        stage.enter(call())
    with pytest.raises(RateLimitedError):
        stage.enter(call())


@given(
    rate=st.integers(1, 50),
    burst=st.integers(0, 50),
    pauses=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_is_served_than_the_rate_and_the_burst_allow(rate, burst, pauses):
    clock = Clock()
    stage = LimitStage(lambda: Of(Limits(rate, burst)), NONE, NONE, clock)
    served = 0
    for pause in pauses:
        clock.now += pause
        try:
            stage.enter(call())
            served += 1
        except RateLimitedError as error:
            assert 0 < error.retry_after_s <= 1 / rate + 1e-9
    assert served <= (burst or rate) + rate * clock.now + 1e-6
    assert served >= min(len(pauses), 1)


def test_changed_limits_hold_at_once():
    clock, policy = Clock(), Of(Limits(1, 1))
    stage = LimitStage(lambda: policy, NONE, NONE, clock)
    stage.enter(call())
    with pytest.raises(RateLimitedError):
        stage.enter(call())
    policy.own = None
    for _ in range(100):
        stage.enter(call())
    policy.own, clock.now = Limits(1, 1), 1.0
    stage.enter(call())
    with pytest.raises(RateLimitedError):
        stage.enter(call())


def test_counting_a_call_costs_less_than_five_microseconds():
    policy = Of(Limits(1_000_000, 1_000_000, 100), Limits(1_000_000, 1_000_000, 100))
    stage, made = LimitStage(lambda: policy, NONE, NONE), call()
    best = min(_cost_of(stage, made) for _ in range(20))
    assert best < 5e-6


def _cost_of(stage: LimitStage, made: Call) -> float:
    began = time.perf_counter()
    for _ in range(2000):
        stage.enter(made)
        stage.leave(made)
    return (time.perf_counter() - began) / 2000
