"""What every kind of step stands on while one run goes through its flow: expressions, the journal, the step budget."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mesh.errors import TiationError
from mesh.sandbox import SandboxBusyError, SandboxPool, SandboxUnavailableError
from orchestrator.approvals import Answer, Question
from orchestrator.flow.durations import seconds_of
from orchestrator.flow.steps import Step, Template
from orchestrator.flow.templates import VARIABLES
from orchestrator.journal import RunCancelledError
from orchestrator.known import Timer
from orchestrator.ports import Calls
from orchestrator.problem import Problem, StepFailedError, problem_of
from orchestrator.runs import Run, StepKey, StepResult
from orchestrator.scope import Scope, StoppedError
from orchestrator.traces import Trail
from orchestrator.values import fault_of
from orchestrator.waits import Waits

__all__ = ["StepJournal", "Walk", "bounded", "effect_key"]

_SANDBOX_TRIES_S = 60.0
_SANDBOX_PAUSE_S = 0.1
_MAX_KEY = 512


class StepJournal(Protocol):
    """What is asked of a run's journal."""

    def committed(self, key: StepKey) -> StepResult | Problem | None:
        """What a step came to, if that is known already."""

    def begun_with(self, key: StepKey) -> Any:  # noqa: ANN401 -- any JSON
        """What a step called with when it began before; None where it has not, or has no effect."""

    def timer(self, key: StepKey) -> Timer | None:
        """From when until when a step waits, if it has begun to."""

    def question(self, key: StepKey) -> Question | None:
        """What a step asks, if it has asked."""

    async def began(self, key: StepKey, arguments: Any) -> None:  # noqa: ANN401 -- any JSON
        """Note that a step is about to call; with its arguments where the call may have an effect, else with None."""

    async def ended(self, key: StepKey, outcome: StepResult | Problem, duration_ms: float) -> None:
        """Note what a step came to; kept at once if it had an effect, else with the next write."""

    async def noted(self, key: StepKey, outcome: StepResult | Problem) -> None:
        """Note something on the way that is no step's own end, so that it is not evaluated again."""

    async def waits(self, key: StepKey, timer: Timer) -> None:
        """Note until when a step waits."""

    async def asks(self, key: StepKey, question: Question) -> None:
        """Ask a person, once."""

    async def answer(self, key: StepKey) -> Answer | None:
        """What was answered, if anything."""

    async def closes(self, key: StepKey, state: str) -> Answer | None:
        """Wait for no answer any more; returns the answer if there was one in time."""

    async def keep(self) -> None:
        """Keep what has only been noted so far."""

    def check_live(self) -> None:
        """Raise what ends the run from outside: a cancellation, a lost lease."""


class Walk(ABC):
    """One run on its way through its flow.

    Args:
        run: for whom and with what.
        journal: remembers.
        calls: asks other services.
        sandbox: evaluates expressions.
        step_budget: how many steps the run may take.
        waits: knows which steps wait.
        chance: a number from 0 to 1, different each time.
        trail: told where steps stand under each other; None where the run's trace is not sampled.
    """

    def __init__(
        self,
        run: Run,
        journal: StepJournal,
        calls: Calls,
        sandbox: SandboxPool,
        step_budget: int,
        waits: Waits,
        chance: Callable[[], float] = random.random,
        trail: Trail | None = None,
    ) -> None:
        self.run_name = run.name
        self.journal = journal
        self.calls = calls
        self.waits = waits
        self.chance = chance
        self.tenant = run.requester.tenant
        self.trail = trail
        self._sandbox = sandbox
        self._budget = step_budget
        self._workflow = {"id": run.name, "input": run.input}
        self._taken = 0

    @abstractmethod
    async def steps(self, steps: tuple[Step, ...], value: Any, scope: Scope) -> tuple[str, Any]:  # noqa: ANN401
        """Do a list of steps; returns `continue` or `end`, and the last output."""

    def check(self, scope: Scope) -> None:
        """Raise what ends the run, or this branch of it."""
        self.journal.check_live()
        if scope.path and scope.stopped.is_set():
            raise StoppedError

    @contextmanager
    def within(self, scope: Scope, key: StepKey) -> Iterator[None]:
        """Go through steps that are inside another one, or inside one round of it."""
        if self.trail is None:
            yield
            return
        outer = scope.inside
        self.trail.parents.setdefault(key, outer)
        scope.inside = key
        try:
            yield
        except StepFailedError as failed:
            self.trail.left[key] = failed.problem
            raise
        except (RunCancelledError, StoppedError):
            self.trail.left[key] = None
            raise
        else:
            self.trail.left[key] = None
        finally:
            scope.inside = outer

    def retake(self, scope: Scope, steps: int) -> None:
        """Count steps that were taken before and are not gone through again."""
        self._taken += steps
        scope.taken += steps

    def take(self, scope: Scope, pointer: str) -> None:
        """Count a step.

        Raises:
            StepFailedError: the run has taken all that it may.
        """
        self._taken += 1
        scope.taken += 1
        if self._taken > self._budget:
            detail = f"the run has taken its budget of {self._budget} steps; does the flow ever end?"
            raise StepFailedError(Problem.of_kind("runtime", 429, "Step budget spent", detail, pointer, "STEP_BUDGET"))

    async def noted(self, key: StepKey, evaluation: Coroutine[Any, Any, StepResult]) -> StepResult:
        """What was evaluated on the way, the same however often the run is gone on with."""
        known = self.journal.committed(key)
        if known is None:
            try:
                known = await evaluation
            except StepFailedError as failed:
                known = failed.problem
            await self.journal.noted(key, known)
        else:
            evaluation.close()
        if isinstance(known, Problem):
            raise StepFailedError(known)
        return known

    async def result(self, step: Step, scope: Scope, given: Any, made: Any, then: str) -> StepResult:  # noqa: ANN401
        """What a step passes on and exports."""
        output = bounded(await self.evaluate(step.output_as, made, scope, step.pointer, input=given), step.pointer)
        if step.export_as is None:
            return StepResult(output, then=then)
        context = await self.evaluate(step.export_as, output, scope, step.pointer, input=given, output=output)
        return StepResult(output, bounded(context, step.pointer), then, exported=True)

    async def holds(
        self, condition: Template | None, value: Any, scope: Scope, pointer: str, **more: Any  # noqa: ANN401
    ) -> bool:  # fmt: skip
        """Whether a condition is true; one that is not there is."""
        return condition is None or await self.evaluate(condition, value, scope, pointer, **more) is True

    async def seconds(self, duration: Template, value: Any, scope: Scope, pointer: str) -> float:  # noqa: ANN401
        """How long a duration is.

        Raises:
            StepFailedError: its expression makes none.
        """
        made = await self.evaluate(duration, value, scope, pointer, input=value)
        try:
            return seconds_of(made)
        except ValueError as error:
            problem = Problem.of_kind("validation", 400, "No duration", str(error), pointer, "DURATION_INVALID")
            raise StepFailedError(problem) from None

    async def evaluate(
        self, template: Template | None, value: Any, scope: Scope, pointer: str, **more: Any  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 -- any JSON  # fmt: skip
        """What a template makes of a value; without one the value itself."""
        if template is None:
            return value
        if not template.program:
            return template.constant
        known = {
            "context": scope.context,
            "workflow": self._workflow,
            "task": {"reference": pointer},
            **scope.variables,
            "runtime": {"name": "tiation"},
            **more,
        }
        program = template.program
        names = [name for name in dict.fromkeys((*VARIABLES, *known)) if f"${name}" in program]
        variables = {name: known.get(name) for name in names}
        return await self._jq(program, value, variables, scope, pointer)

    async def _jq(self, program: str, value: Any, variables: dict[str, Any], scope: Scope, pointer: str) -> Any:  # noqa: ANN401
        """Run a program; that the sandbox has no room is no fault of the flow and waited for, a minute at most."""
        deadline = time.monotonic() + _SANDBOX_TRIES_S
        while True:
            try:
                return await self._sandbox.jq(program, value, variables, owner=self.tenant)
            except (SandboxBusyError, SandboxUnavailableError) as error:
                if time.monotonic() > deadline:
                    raise StepFailedError(problem_of(error, pointer)) from None
            except TiationError as error:
                raise StepFailedError(problem_of(error, pointer)) from None
            self.check(scope)
            await asyncio.sleep(_SANDBOX_PAUSE_S)


def effect_key(run: str, key: StepKey) -> str:
    """What names the effect of one step of one run, at most 512 characters."""
    often = f"{key.scope}.{key.occurrence}" if key.scope else str(key.occurrence)
    text = f"{run}{key.pointer}#{often}/effect"
    if len(text) <= _MAX_KEY:
        return text
    return f"{run}/{hashlib.sha256(key.pointer.encode()).hexdigest()}#{often}/effect"


def bounded(value: Any, pointer: str) -> Any:  # noqa: ANN401 -- any JSON
    """The value, unless it cannot be journalled."""
    fault = fault_of(value)
    if fault:
        detail = f"a step's value {fault}; pass on less with `output.as`"
        raise StepFailedError(Problem.of_kind("runtime", 413, "Value too large", detail, pointer, "RESULT_TOO_LARGE"))
    return value
