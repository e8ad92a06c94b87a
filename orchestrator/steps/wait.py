"""`wait`: until a moment that is fixed when the flow first comes to the step, whatever happens to the process."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from orchestrator.flow.steps import Wait
from orchestrator.known import Timer
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope
from orchestrator.steps.walk import Walk
from orchestrator.waits import HOLD_S

__all__ = ["pause", "wait"]


async def wait(walk: Walk, step: Wait, value: Any, scope: Scope, key: StepKey) -> StepResult:  # noqa: ANN401 -- any JSON
    """Wait; passes on what it was given."""
    timer = walk.journal.timer(key)
    if timer is None and not await walk.holds(step.condition, value, scope, step.pointer):
        return StepResult(value, skipped=True)
    given = await walk.evaluate(step.input_from, value, scope, step.pointer)
    if timer is None:
        now = walk.waits.clock()
        timer = Timer(now, now + timedelta(seconds=await walk.seconds(step.duration, given, scope, step.pointer)))
        await walk.journal.waits(key, timer)
    await pause(walk, timer.until, scope)
    return await walk.result(step, scope, given, given, step.then)


async def pause(walk: Walk, until: datetime, scope: Scope) -> None:
    """Wait until a moment that is noted; a longer wait is kept first, so that whoever looks sees it."""
    remaining = (until - walk.waits.clock()).total_seconds()
    if remaining <= 0:
        return
    if remaining > HOLD_S:
        await walk.journal.keep()
    await walk.waits.until(until, partial(walk.check, scope))
