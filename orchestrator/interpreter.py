"""Goes through a flow, step by step; whatever the journal already knows is taken from there and not done again.

It decides what comes next and nothing else: calls are `orchestrator.ports.Calls`', keeping is the journal's.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from mesh.errors import TiationError
from mesh.sandbox import SandboxBusyError, SandboxPool, SandboxUnavailableError
from orchestrator.flow.steps import Call, Do, Flow, Set, Step, Switch, Template, Try
from orchestrator.flow.templates import VARIABLES
from orchestrator.ports import Calls
from orchestrator.problem import Problem, StepFailedError, problem_of
from orchestrator.runs import Run, StepResult
from orchestrator.values import fault_of

__all__ = ["Interpreter", "StepJournal"]

_SANDBOX_TRIES_S = 60.0
_SANDBOX_PAUSE_S = 0.1
_MAX_KEY = 512


class StepJournal(Protocol):
    """What the interpreter asks of a run's journal."""

    def committed(self, pointer: str, occurrence: int) -> StepResult | Problem | None:
        """What a step came to, if that is known already."""

    def begun_with(self, pointer: str, occurrence: int) -> Any:  # noqa: ANN401 -- any JSON
        """What a step called with when it began before; None where it has not, or has no effect."""

    async def began(self, pointer: str, occurrence: int, arguments: Any) -> None:  # noqa: ANN401 -- any JSON
        """Note that a step is about to call; with its arguments where the call may have an effect, else with None."""

    async def ended(self, pointer: str, occurrence: int, outcome: StepResult | Problem, duration_ms: float) -> None:
        """Note what a step came to; kept at once if it had an effect, else with the next write."""

    async def noted(self, pointer: str, occurrence: int, outcome: StepResult | Problem) -> None:
        """Note something on the way that is no step's own end, so that it is not evaluated again."""

    def check_live(self) -> None:
        """Raise what ends the run from outside: a cancellation, a lost lease."""


class Interpreter:
    """One run of a flow.

    Args:
        flow: what to do.
        run: for whom and with what.
        journal: remembers.
        calls: asks other services.
        sandbox: evaluates expressions.
        step_budget: how many steps the run may take.
    """

    def __init__(
        self, flow: Flow, run: Run, journal: StepJournal, calls: Calls, sandbox: SandboxPool, step_budget: int
    ) -> None:
        self._flow = flow
        self._journal = journal
        self._calls = calls
        self._sandbox = sandbox
        self._budget = step_budget
        self._run = run
        self._tenant = run.requester.tenant
        self._context: Any = None
        self._workflow = {"id": run.name, "input": run.input}
        self._caught: dict[str, Any] = {}
        self._visits: Counter[str] = Counter()
        self._taken = 0

    async def run(self) -> Any:  # noqa: ANN401 -- any JSON
        """Go through the flow; returns its output.

        Raises:
            StepFailedError: a step failed and nothing caught it.
        """
        value = self._run.input
        if self._flow.input_from is not None:
            entered = await self._noted("#enter", 1, self._given(self._flow.input_from, value, ""))
            value = entered.output
        _, value = await self._steps(self._flow.steps, value)
        return _bounded(await self._evaluate(self._flow.output_as, value, "", output=value), "")

    async def _steps(self, steps: tuple[Step, ...], value: Any) -> tuple[str, Any]:  # noqa: ANN401 -- any JSON
        """Do a list of steps; returns `continue` or `end`, and the last output."""
        at = {step.name: number for number, step in enumerate(steps)}
        number = 0
        while number < len(steps):
            then, value = await self._step(steps[number], value)
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

    async def _step(self, step: Step, value: Any) -> tuple[str, Any]:  # noqa: ANN401 -- any JSON
        """Do one step, or take from the journal what it came to."""
        self._journal.check_live()
        self._taken += 1
        if self._taken > self._budget:
            detail = f"the run has taken its budget of {self._budget} steps; does the flow ever end?"
            raise StepFailedError(
                Problem.of_kind("runtime", 429, "Step budget spent", detail, step.pointer, "STEP_BUDGET")
            )
        self._visits[step.pointer] += 1
        visit = self._visits[step.pointer]
        if isinstance(step, (Do, Try)):
            return await self._nested(step, value, visit)
        known = self._journal.committed(step.pointer, visit)
        if known is None:
            known = await self._perform(step, value, visit)
        return self._taken_up(known)

    async def _perform(self, step: Set | Switch | Call, value: Any, visit: int) -> StepResult | Problem:  # noqa: ANN401
        """Do a step for the first time and note what it came to."""
        began = time.perf_counter()
        outcome: StepResult | Problem
        try:
            outcome = await (self._call(step, value, visit) if isinstance(step, Call) else self._compute(step, value))
        except StepFailedError as failed:
            outcome = failed.problem
        await self._journal.ended(step.pointer, visit, outcome, (time.perf_counter() - began) * 1000)
        return outcome

    async def _compute(self, step: Set | Switch, value: Any) -> StepResult:  # noqa: ANN401 -- any JSON
        if not await self._holds(step.condition, value, step.pointer):
            return StepResult(value, skipped=True)
        given = await self._evaluate(step.input_from, value, step.pointer)
        if isinstance(step, Set):
            made = await self._evaluate(step.value, given, step.pointer, input=given)
            return await self._result(step, given, made, step.then)
        for case in step.cases:
            if await self._holds(case.when, given, step.pointer):
                return await self._result(step, given, given, case.then)
        return await self._result(step, given, given, step.then)

    async def _call(self, step: Call, value: Any, visit: int) -> StepResult:  # noqa: ANN401 -- any JSON
        """Ask another service; a step that began before calls with what it called with then, or the key would lie."""
        arguments = self._journal.begun_with(step.pointer, visit)
        if arguments is None and not await self._holds(step.condition, value, step.pointer):
            return StepResult(value, skipped=True)
        given = await self._evaluate(step.input_from, value, step.pointer)
        if arguments is None:
            arguments = await self._evaluate(step.arguments, given, step.pointer, input=given)
        effect = step.kind == "connect"
        await self._journal.began(step.pointer, visit, _bounded(arguments, step.pointer) if effect else None)
        try:
            made = await self._calls.call(step.kind, arguments, _effect_key(self._run.name, step.pointer, visit))
        except TiationError as error:
            raise StepFailedError(problem_of(error, step.pointer)) from None
        return await self._result(step, given, made, step.then)

    async def _result(self, step: Step, given: Any, made: Any, then: str) -> StepResult:  # noqa: ANN401 -- any JSON
        """What a step passes on and exports."""
        output = _bounded(await self._evaluate(step.output_as, made, step.pointer, input=given), step.pointer)
        if step.export_as is None:
            return StepResult(output, then=then)
        context = await self._evaluate(step.export_as, output, step.pointer, input=given, output=output)
        return StepResult(output, _bounded(context, step.pointer), then, exported=True)

    async def _nested(self, step: Do | Try, value: Any, visit: int) -> tuple[str, Any]:  # noqa: ANN401 -- any JSON
        """Do the steps inside a step; those that are journalled are passed through, not done again."""
        entered = StepResult(value)
        if step.condition is not None or step.input_from is not None:
            entered = await self._noted(f"{step.pointer}#enter", visit, self._entering(step, value))
        if entered.skipped:
            return "continue", value
        directive, made = await self._inside(step, entered.output, visit)
        known = self._journal.committed(step.pointer, visit)
        if known is None:
            try:
                known = await self._result(step, entered.output, made, step.then)
            except StepFailedError as failed:
                known = failed.problem
            await self._journal.ended(step.pointer, visit, known, 0.0)
        then, output = self._taken_up(known)
        return ("end" if directive == "end" else then), output

    async def _entering(self, step: Do | Try, value: Any) -> StepResult:  # noqa: ANN401 -- any JSON
        if not await self._holds(step.condition, value, step.pointer):
            return StepResult(skipped=True)
        return await self._given(step.input_from, value, step.pointer)

    async def _given(self, template: Template | None, value: Any, pointer: str) -> StepResult:  # noqa: ANN401
        return StepResult(_bounded(await self._evaluate(template, value, pointer), pointer))

    async def _noted(self, mark: str, visit: int, evaluation: Coroutine[Any, Any, StepResult]) -> StepResult:
        """What was evaluated on the way, the same however often the run is gone on with."""
        known = self._journal.committed(mark, visit)
        if known is None:
            try:
                known = await evaluation
            except StepFailedError as failed:
                known = failed.problem
            await self._journal.noted(mark, visit, known)
        else:
            evaluation.close()
        if isinstance(known, Problem):
            raise StepFailedError(known)
        return known

    async def _inside(self, step: Do | Try, value: Any, visit: int) -> tuple[str, Any]:  # noqa: ANN401 -- any JSON
        if isinstance(step, Do):
            return await self._steps(step.steps, value)
        try:
            return await self._steps(step.steps, value)
        except StepFailedError as failed:
            problem = msgspec.to_builtins(failed.problem)
            if failed.problem.reason == "STEP_BUDGET" or not await self._catches(step, problem, visit):
                raise
            outer = self._caught
            self._caught = outer | {step.catch.error_as: problem}
            try:
                return await self._steps(step.catch.steps, value)
            finally:
                self._caught = outer

    async def _catches(self, step: Try, problem: dict[str, Any], visit: int) -> bool:
        catch = step.catch
        if any(problem.get(key) != wanted for key, wanted in catch.matching):
            return False
        if catch.when is None:
            return True
        return bool((await self._noted(f"{step.pointer}#catch", visit, self._matches(step, problem))).output)

    async def _matches(self, step: Try, problem: dict[str, Any]) -> StepResult:
        holds = await self._holds(step.catch.when, problem, step.pointer, **{step.catch.error_as: problem})
        return StepResult(holds)

    def _taken_up(self, known: StepResult | Problem) -> tuple[str, Any]:
        """Go on from what a step came to."""
        if isinstance(known, Problem):
            raise StepFailedError(known)
        if known.exported:
            self._context = known.context
        return known.then, known.output

    async def _holds(self, condition: Template | None, value: Any, pointer: str, **more: Any) -> bool:  # noqa: ANN401
        return condition is None or await self._evaluate(condition, value, pointer, **more) is True

    async def _evaluate(self, template: Template | None, value: Any, pointer: str, **more: Any) -> Any:  # noqa: ANN401
        """What a template makes of a value; without one the value itself."""
        if template is None:
            return value
        if not template.program:
            return template.constant
        known = {"context": self._context, "workflow": self._workflow, "task": {"reference": pointer}, **self._caught}
        known |= {"runtime": {"name": "tiation"}, **more}
        program = template.program
        names = [name for name in dict.fromkeys((*VARIABLES, *known)) if f"${name}" in program]
        variables = {name: known.get(name) for name in names}
        return await self._jq(program, value, variables, pointer)

    async def _jq(self, program: str, value: Any, variables: dict[str, Any], pointer: str) -> Any:  # noqa: ANN401
        """Run a program; that the sandbox has no room is no fault of the flow and waited for, a minute at most."""
        deadline = time.monotonic() + _SANDBOX_TRIES_S
        while True:
            try:
                return await self._sandbox.jq(program, value, variables, owner=self._tenant)
            except (SandboxBusyError, SandboxUnavailableError) as error:
                if time.monotonic() > deadline:
                    raise StepFailedError(problem_of(error, pointer)) from None
            except TiationError as error:
                raise StepFailedError(problem_of(error, pointer)) from None
            self._journal.check_live()
            await asyncio.sleep(_SANDBOX_PAUSE_S)


def _effect_key(run: str, pointer: str, visit: int) -> str:
    """What names the effect of one step of one run, at most 512 characters."""
    key = f"{run}{pointer}#{visit}/effect"
    if len(key) <= _MAX_KEY:
        return key
    return f"{run}/{hashlib.sha256(pointer.encode()).hexdigest()}#{visit}/effect"


def _bounded(value: Any, pointer: str) -> Any:  # noqa: ANN401 -- any JSON
    """The value, unless it cannot be journalled."""
    fault = fault_of(value)
    if fault:
        detail = f"a step's value {fault}; pass on less with `output.as`"
        raise StepFailedError(Problem.of_kind("runtime", 413, "Value too large", detail, pointer, "RESULT_TOO_LARGE"))
    return value
