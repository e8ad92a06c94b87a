"""`try`: steps, again after a while where a retry policy says so, and others when they fail for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from orchestrator.flow.steps import Retry, Template, Try
from orchestrator.known import Timer
from orchestrator.problem import OUTCOME_UNKNOWN, UNCATCHABLE, Problem, StepFailedError
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope
from orchestrator.steps.wait import pause
from orchestrator.steps.walk import Walk

__all__ = ["attempt"]

_LONGEST_S = 30 * 86_400.0
"""However often the pause has doubled, it is no longer."""


async def attempt(walk: Walk, step: Try, value: Any, scope: Scope, key: StepKey) -> tuple[str, Any]:  # noqa: ANN401
    """Do the steps; what fails is caught where `catch` says so, tried again while `retry` says so, then handled."""
    outer = scope.variables
    retried, first = 0, None
    while True:
        try:
            with walk.within(scope, StepKey(key.scope, f"{step.pointer}#attempt/{retried}", key.occurrence)):
                return await walk.steps(step.steps, value, scope)
        except StepFailedError as failed:
            problem = failed.problem
            scope.variables = outer  # a loop that failed inside has put back its own
            if problem.reason in UNCATCHABLE or not await _catches(walk, step, problem, scope):
                raise
        retry = step.catch.retry
        if retry is not None:
            timer = await _again(walk, step, problem, scope, retried, first)
            if timer is not None:
                retried, first = retried + 1, first or timer
                await pause(walk, timer.until, scope)
                continue
            if not step.catch.steps:
                raise StepFailedError(problem)
        scope.variables = outer | {step.catch.error_as: msgspec.to_builtins(problem)}
        try:
            return await walk.steps(step.catch.steps, value, scope)
        finally:
            scope.variables = outer


async def _catches(walk: Walk, step: Try, problem: Problem, scope: Scope) -> bool:
    """Whether a problem is one that `catch` is for."""
    catch = step.catch
    fields = msgspec.to_builtins(problem)
    if any(fields.get(key) != wanted for key, wanted in catch.matching):
        return False
    if catch.when is None and catch.except_when is None:
        return True
    mark = scope.come_to(f"{step.pointer}#catch")
    return bool((await walk.noted(mark, _matches(walk, step, problem, scope))).output)


async def _matches(walk: Walk, step: Try, problem: Problem, scope: Scope) -> StepResult:
    return StepResult(await _applies(walk, step, problem, scope, step.catch.when, step.catch.except_when))


async def _applies(
    walk: Walk, step: Try, problem: Problem, scope: Scope, when: Template | None, unless: Template | None
) -> bool:
    """Whether conditions on a problem hold."""
    fields = msgspec.to_builtins(problem)
    named = {step.catch.error_as: fields}
    if not await walk.holds(when, fields, scope, step.pointer, **named):
        return False
    return unless is None or not await walk.holds(unless, fields, scope, step.pointer, **named)


async def _again(
    walk: Walk, step: Try, problem: Problem, scope: Scope, retried: int, first: Timer | None
) -> Timer | None:
    """From when until when to wait before the steps are begun again; None where they are not.

    The decision is noted, either way: it depends on the clock and on chance.
    """
    mark = scope.come_to(f"{step.pointer}#retry")
    timer = walk.journal.timer(mark)
    if timer is not None or walk.journal.committed(mark) is not None:
        return timer
    timer = await _decide(walk, step, problem, scope, retried, first)
    if timer is None:
        await walk.journal.noted(mark, StepResult(output=False))
    else:
        await walk.journal.waits(mark, timer)
    return timer


async def _decide(
    walk: Walk, step: Try, problem: Problem, scope: Scope, retried: int, first: Timer | None
) -> Timer | None:
    retry = step.catch.retry
    assert retry is not None  # noqa: S101 -- asked for one
    if problem.reason == OUTCOME_UNKNOWN or (retry.max_count is not None and retried >= retry.max_count):
        return None
    if not await _applies(walk, step, problem, scope, retry.when, retry.except_when):
        return None
    now = walk.waits.clock()
    until = now + timedelta(seconds=await _pause_s(walk, step, retry, scope, retried))
    if retry.max_duration is not None:
        allowed = await walk.seconds(retry.max_duration, None, scope, step.pointer)
        if until > (first.since if first is not None else now) + timedelta(seconds=allowed):
            return None
    return Timer(now, until)


async def _pause_s(walk: Walk, step: Try, retry: Retry, scope: Scope, retried: int) -> float:
    """The pause before the next time: the delay, grown, and some jitter."""
    pause_s = await walk.seconds(retry.delay, None, scope, step.pointer) if retry.delay is not None else 0.0
    if retry.backoff == "linear":
        pause_s *= retried + 1
    elif retry.backoff == "exponential":
        pause_s *= 2.0 ** min(retried, 32)
    if retry.jitter is not None:
        low, high = [await walk.seconds(end, None, scope, step.pointer) for end in retry.jitter]
        pause_s += low + (high - low) * walk.chance()
    return min(max(0.0, pause_s), _LONGEST_S)
