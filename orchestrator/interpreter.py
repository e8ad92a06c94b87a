"""Goes through a flow, step by step; whatever the journal already knows is taken from there and not done again.

It decides what comes next and nothing else: what each kind of step does is `orchestrator.steps`', keeping is the
journal's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from mesh.sandbox import SandboxPool
from mesh.tracing import current_trace
from orchestrator.flow.steps import (
    Approve,
    Call,
    Do,
    Flow,
    For,
    Fork,
    Raise,
    Set,
    Step,
    Switch,
    Template,
    Try,
    Wait,
)
from orchestrator.journal import RunCancelledError
from orchestrator.ports import Calls
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import Run, StepKey, StepResult
from orchestrator.scope import Scope, StoppedError
from orchestrator.steps.approve import approve
from orchestrator.steps.attempt import attempt
from orchestrator.steps.call import call
from orchestrator.steps.fork import fork
from orchestrator.steps.loop import loop
from orchestrator.steps.plain import compute
from orchestrator.steps.wait import wait
from orchestrator.steps.walk import StepJournal, Walk, bounded
from orchestrator.traces import Trail
from orchestrator.waits import Waits

__all__ = ["Interpreter"]

_Leaf: TypeAlias = Callable[[Walk, Any, Any, Scope, StepKey], Awaitable[StepResult]]
_Block: TypeAlias = Callable[[Walk, Any, Any, Scope, StepKey], Awaitable[tuple[str, Any]]]


async def _do(walk: Walk, step: Do, value: Any, scope: Scope, _: StepKey) -> tuple[str, Any]:  # noqa: ANN401
    return await walk.steps(step.steps, value, scope)


_LEAVES: Mapping[type[Step], _Leaf] = {
    Set: compute,
    Switch: compute,
    Raise: compute,
    Call: call,
    Wait: wait,
    Approve: approve,
}
"""Steps that hold no others: each is done once and makes a result."""
_BLOCKS: Mapping[type[Step], _Block] = {Do: _do, Try: attempt, For: loop, Fork: fork}
"""Steps that hold others: what is journalled inside them is passed through, not done again."""


class Interpreter(Walk):
    """One run of a flow.

    Args:
        flow: what to do.
        run: for whom and with what.
        journal: remembers.
        calls: asks other services.
        sandbox: evaluates expressions.
        step_budget: how many steps the run may take.
        waits: knows which steps wait; its own where none is given.
        trail: see `Walk`.
    """

    def __init__(
        self,
        flow: Flow,
        run: Run,
        journal: StepJournal,
        calls: Calls,
        sandbox: SandboxPool,
        step_budget: int,
        waits: Waits | None = None,
        trail: Trail | None = None,
    ) -> None:
        super().__init__(run, journal, calls, sandbox, step_budget, waits or Waits(), trail=trail)
        self._flow = flow
        self._input = run.input
        self._root = Scope()

    def interrupt(self) -> None:
        """Hear that the run is to end: calls without an effect are given up, what waits looks up."""
        self._root.stop()
        self.waits.nudge()

    async def run(self) -> Any:  # noqa: ANN401 -- any JSON
        """Go through the flow; returns its output.

        Raises:
            StepFailedError: a step failed and nothing caught it.
            PutAsideError: all that is left waits, see `waits`.
        """
        value, scope = self._input, self._root
        if self._flow.input_from is not None:
            mark = StepKey("", "#enter", 1)
            entered = await self.noted(mark, self._given(self._flow.input_from, value, scope, ""))
            value = entered.output
        _, value = await self.steps(self._flow.steps, value, scope)
        return bounded(await self.evaluate(self._flow.output_as, value, scope, "", output=value), "")

    async def steps(self, steps: tuple[Step, ...], value: Any, scope: Scope) -> tuple[str, Any]:  # noqa: ANN401
        """Do a list of steps; returns `continue` or `end`, and the last output."""
        at = {step.name: number for number, step in enumerate(steps)}
        number = 0
        while number < len(steps):
            then, value = await self._step(steps[number], value, scope)
            match then:
                case "continue":
                    number += 1
                case "exit":
                    return "continue", value
                case "end":
                    return "end", value
                case _:
                    number = at[then]
        return "continue", value

    async def _step(self, step: Step, value: Any, scope: Scope) -> tuple[str, Any]:  # noqa: ANN401 -- any JSON
        """Do one step, or take from the journal what it came to."""
        self.check(scope)
        self.take(scope, step.pointer)
        key = scope.come_to(step.pointer)
        if type(step) in _BLOCKS:
            return await self._block(step, value, scope, key)
        if self.trail is not None:
            self.trail.parents[key] = scope.inside
        known = self.journal.committed(key)
        if known is None and self.trail is not None:
            known = await self._traced(self.trail, self._leaf(step, value, scope, key), key)
        elif known is None:
            known = await self._leaf(step, value, scope, key)
        return self._taken_up(known, scope)

    @staticmethod
    async def _traced(
        trail: Trail, leaf: Awaitable[StepResult | Problem], key: StepKey
    ) -> StepResult | Problem:  # fmt: skip
        """Do a step so that what it calls is told which span is above."""
        held = current_trace.set(trail.at(key))
        try:
            return await leaf
        except (RunCancelledError, StoppedError):
            trail.stopped[key] = datetime.now(UTC)
            raise
        finally:
            current_trace.reset(held)

    async def _leaf(self, step: Step, value: Any, scope: Scope, key: StepKey) -> StepResult | Problem:  # noqa: ANN401
        """Do a step for the first time and note what it came to."""
        began = time.perf_counter()
        outcome: StepResult | Problem
        try:
            outcome = await _LEAVES[type(step)](self, step, value, scope, key)
        except StepFailedError as failed:
            outcome = failed.problem
        duration_ms = (time.perf_counter() - began) * 1000
        await self.journal.ended(key, outcome, duration_ms)
        return outcome

    async def _block(self, step: Step, value: Any, scope: Scope, key: StepKey) -> tuple[str, Any]:  # noqa: ANN401
        """Do the steps inside a step."""
        entered = StepResult(value)
        if step.condition is not None or step.input_from is not None:
            mark = StepKey(key.scope, f"{key.pointer}#enter", key.occurrence)
            entered = await self.noted(mark, self._entering(step, value, scope))
        if entered.skipped:
            return "continue", value
        with self.within(scope, key):
            directive, made = await _BLOCKS[type(step)](self, step, entered.output, scope, key)
        known = self.journal.committed(key)
        if known is None:
            try:
                known = await self.result(step, scope, entered.output, made, step.then)
            except StepFailedError as failed:
                known = failed.problem
            await self.journal.ended(key, known, 0.0)
        then, output = self._taken_up(known, scope)
        return ("end" if directive == "end" else then), output

    async def _entering(self, step: Step, value: Any, scope: Scope) -> StepResult:  # noqa: ANN401 -- any JSON
        if not await self.holds(step.condition, value, scope, step.pointer):
            return StepResult(skipped=True)
        return await self._given(step.input_from, value, scope, step.pointer)

    async def _given(self, template: Template | None, value: Any, scope: Scope, pointer: str) -> StepResult:  # noqa: ANN401
        return StepResult(bounded(await self.evaluate(template, value, scope, pointer), pointer))

    @staticmethod
    def _taken_up(known: StepResult | Problem, scope: Scope) -> tuple[str, Any]:
        """Go on from what a step came to."""
        if isinstance(known, Problem):
            raise StepFailedError(known)
        if known.exported:
            scope.context = known.context
        return known.then, known.output
