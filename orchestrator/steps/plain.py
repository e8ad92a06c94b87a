"""The steps that ask nobody: `set`, `switch`, `raise`."""

from __future__ import annotations

from typing import Any

from orchestrator.flow.steps import Raise, Set, Switch
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope
from orchestrator.steps.walk import Walk

__all__ = ["compute"]


async def compute(walk: Walk, step: Set | Switch | Raise, value: Any, scope: Scope, _: StepKey) -> StepResult:  # noqa: ANN401
    """Do it."""
    if not await walk.holds(step.condition, value, scope, step.pointer):
        return StepResult(value, skipped=True)
    given = await walk.evaluate(step.input_from, value, scope, step.pointer)
    if isinstance(step, Raise):
        raise StepFailedError(_problem(await walk.evaluate(step.error, given, scope, step.pointer, input=given), step))
    if isinstance(step, Set):
        made = await walk.evaluate(step.value, given, scope, step.pointer, input=given)
        return await walk.result(step, scope, given, made, step.then)
    for case in step.cases:
        if await walk.holds(case.when, given, scope, step.pointer):
            return await walk.result(step, scope, given, given, case.then)
    return await walk.result(step, scope, given, given, step.then)


def _problem(error: dict[str, Any], step: Raise) -> Problem:
    """The problem that a step raises; what its expressions made must be one."""
    status = error["status"]
    texts = {name: error.get(name) or "" for name in ("type", "title", "detail", "instance")}
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        return _invalid("`status` must be an HTTP status, 100 to 599", step)
    for name, text in texts.items():
        if not isinstance(text, str):
            return _invalid(f"`{name}` must be a text", step)
    if not texts["type"]:
        return _invalid("`type` must be a URI", step)
    title = texts["title"] or "Raised by the flow"
    return Problem(texts["type"], status, title, texts["detail"], texts["instance"] or step.pointer)


def _invalid(what: str, step: Raise) -> Problem:
    detail = f"the error to raise is none: {what}"
    return Problem.of_kind("expression", 400, "Not an error", detail, step.pointer, "ERROR_INVALID")
