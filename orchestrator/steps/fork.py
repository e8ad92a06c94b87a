"""`fork`: several steps at once, each a scope of its own; the first that fails, or wins, stops the others.

What the branches came to is noted as one before the flow goes on. A branch that is stopped ends where it stands: it
begins nothing more, but a call that may have an effect comes to its end and is journalled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from orchestrator.flow.steps import Fork, Step
from orchestrator.journal import HandedBackError, RunCancelledError
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope, StoppedError
from orchestrator.steps.walk import Walk, bounded
from orchestrator.waits import PutAsideError

__all__ = ["fork"]

_TOGETHER = (RunCancelledError, HandedBackError, PutAsideError)
"""What ends every branch of a run by itself, in the order of what weighs most."""


async def fork(walk: Walk, step: Fork, value: Any, scope: Scope, key: StepKey) -> tuple[str, Any]:  # noqa: ANN401
    """Do the branches; returns their outputs in the order in which they stand, or the winner's."""
    mark = StepKey(key.scope, f"{step.pointer}#joined", key.occurrence)
    known = walk.journal.committed(mark)
    if known is None:
        known = await _Branches(walk, step, scope).run(value, key.occurrence)
        await walk.journal.noted(mark, known)
        if step.compete or "problem" in known.output:
            await walk.journal.keep()  # a race is not run again
    else:
        assert isinstance(known, StepResult)  # noqa: S101 -- as it was noted
        walk.retake(scope, known.output["taken"])
    if "problem" in known.output:
        raise StepFailedError(msgspec.convert(known.output["problem"], Problem))
    return "continue", known.output["made"]


class _Branches:
    """The branches of a fork while they run."""

    def __init__(self, walk: Walk, step: Fork, scope: Scope) -> None:
        self._walk = walk
        self._step = step
        self._scope = scope
        self._running = len(step.branches)
        self._scopes: list[Scope] = []
        self._decided: Any = None

    async def run(self, value: Any, occurrence: int) -> StepResult:  # noqa: ANN401 -- any JSON
        """Start them, and wait until all have ended."""
        self._walk.waits.split(self._running)
        self._scopes = [self._scope.branch(occurrence) for _ in self._step.branches]
        tasks = [
            asyncio.get_running_loop().create_task(self._branch(branch, value, scope))
            for branch, scope in zip(self._step.branches, self._scopes, strict=True)
        ]
        try:
            await self._all(tasks)
        finally:
            self._scope.joined()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        taken = sum(scope.taken for scope in self._scopes)
        self._scope.taken += taken
        made: Any = [task.result() for task in tasks] if self._decided is None else self._decided
        if not isinstance(made, Problem):
            made = made[0] if self._step.compete else made
            try:
                return StepResult({"made": bounded(made, self._step.pointer), "taken": taken})
            except StepFailedError as failed:
                made = failed.problem
        return StepResult({"problem": msgspec.to_builtins(made), "taken": taken})

    async def _all(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Wait for every branch; one that ends with what is not the flow's ends all."""
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        errors = {type(error): error for task in tasks if task.done() and (error := task.exception()) is not None}
        if any(not issubclass(kind, _TOGETHER) for kind in errors):
            raise next(error for kind, error in errors.items() if not issubclass(kind, _TOGETHER))
        await asyncio.wait(tasks)
        for kind in _TOGETHER:
            for task in tasks:
                error = task.exception()
                if isinstance(error, kind):
                    raise error
        for task in tasks:
            task.result()

    async def _branch(self, branch: Step, value: Any, scope: Scope) -> Any:  # noqa: ANN401 -- any JSON
        """One branch; what decides the fork is remembered, and the others are stopped."""
        try:
            _, made = await self._walk.steps((branch,), value, scope)
        except StepFailedError as failed:
            self._decide(failed.problem)
            made = None
        except StoppedError:
            made = None
        else:
            if self._step.compete:
                self._decide([made])
        self._running -= 1
        if self._running:
            self._walk.waits.leave()
        return made

    def _decide(self, outcome: Any) -> None:  # noqa: ANN401 -- a problem, or the winner's output
        if self._decided is None:
            self._decided = outcome
            for scope in self._scopes:
                scope.stop()
            self._walk.waits.nudge()
