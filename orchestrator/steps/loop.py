"""`for`: steps for each item of a list, each time with what the time before made."""

from __future__ import annotations

from typing import Any

from orchestrator.flow.steps import For
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope
from orchestrator.steps.walk import Walk, bounded

__all__ = ["loop"]

_KINDS = {dict: "an object", str: "a text", bool: "true or false", type(None): "null"}


async def loop(walk: Walk, step: For, value: Any, scope: Scope, key: StepKey) -> tuple[str, Any]:  # noqa: ANN401
    """Go through the list; its items and each `while` are noted, so that both stay as they were."""
    mark = StepKey(key.scope, f"{step.pointer}#in", key.occurrence)
    items = (await walk.noted(mark, _items(walk, step, value, scope))).output
    outer = scope.variables
    try:
        for index, item in enumerate(items):
            scope.variables = outer | {step.each: item, step.at: index}
            if step.condition_while is not None:
                mark = scope.come_to(f"{step.pointer}#while")
                if not (await walk.noted(mark, _goes_on(walk, step, value, scope))).output:
                    break
            with walk.within(scope, StepKey(key.scope, f"{step.pointer}#round/{index}", key.occurrence)):
                directive, value = await walk.steps(step.steps, value, scope)
            if directive == "end":
                return "end", value
    finally:
        scope.variables = outer
    return "continue", value


async def _items(walk: Walk, step: For, value: Any, scope: Scope) -> StepResult:  # noqa: ANN401 -- any JSON
    items = await walk.evaluate(step.items, value, scope, step.pointer, input=value)
    if not isinstance(items, list):
        detail = f"`for.in` must make a list; it made {_KINDS.get(type(items), 'a number')}"
        raise StepFailedError(Problem.of_kind("expression", 400, "No list", detail, step.pointer, "NOT_A_LIST"))
    return StepResult(bounded(items, step.pointer))


async def _goes_on(walk: Walk, step: For, value: Any, scope: Scope) -> StepResult:  # noqa: ANN401 -- any JSON
    return StepResult(await walk.holds(step.condition_while, value, scope, step.pointer, input=value))
