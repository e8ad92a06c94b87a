"""A run's journal while an executor holds the run: what is known of its steps, and what is to be kept next.

Results of steps that called are kept at once; those of steps that only computed go with the next write, as they can
be computed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from mesh.db import Database
from orchestrator.notices import Notices
from orchestrator.ports import RunRows
from orchestrator.problem import Problem
from orchestrator.runs import Event, NewEvent, RunLease, StepResult

__all__ = ["HandedBackError", "RunCancelledError", "RunJournal"]

_MAX_PENDING = 64


class RunCancelledError(Exception):
    """Somebody has asked that the run end."""


class HandedBackError(Exception):
    """The executor stops; another one will go on with the run."""


class RunJournal:
    """The journal of one run under one lease.

    Args:
        lease: the right to write.
        events: everything journalled so far.
        database: the service's own database.
        rows: its statements.
        notices: told of every write.
        draining: whether the executor is about to stop.
    """

    def __init__(
        self,
        lease: RunLease,
        events: Sequence[Event],
        database: Database,
        rows: RunRows,
        notices: Notices,
        draining: Callable[[], bool],
    ) -> None:
        self._lease = lease
        self._database = database
        self._rows = rows
        self._notices = notices
        self._draining = draining
        self._pending: list[NewEvent] = []
        self._known: dict[tuple[str, int], StepResult | Problem] = {}
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._calling: tuple[str, int] | None = None
        self.cancel_requested = lease.run.cancel_requested
        for event in events:
            what = event.what
            if what.kind == "STEP_STARTED":
                self._attempts[what.step, what.occurrence] += 1
            elif what.kind == "STEP_SUCCEEDED" and what.result is not None:
                self._known[what.step, what.occurrence] = what.result
            elif what.kind == "STEP_FAILED" and what.problem is not None:
                self._known[what.step, what.occurrence] = what.problem

    def committed(self, pointer: str, occurrence: int) -> StepResult | Problem | None:
        """What a step came to, if that is known already."""
        return self._known.get((pointer, occurrence))

    def check_live(self) -> None:
        """Raise what ends the run from outside.

        Raises:
            RunCancelledError: somebody asked.
            HandedBackError: the executor stops.
        """
        if self.cancel_requested:
            raise RunCancelledError
        if self._draining():
            raise HandedBackError

    async def began(self, pointer: str, occurrence: int, *, durable: bool) -> None:
        """Note that a step is about to call; what was noted before is kept with it."""
        key = (pointer, occurrence)
        self._attempts[key] += 1
        self._calling = key
        started = NewEvent("STEP_STARTED", pointer, occurrence, self._attempts[key])
        await self._write([started], durable=durable or bool(self._pending))
        self.check_live()

    async def ended(self, pointer: str, occurrence: int, outcome: StepResult | Problem, duration_ms: float) -> None:
        """Note what a step came to; kept at once if it called, else with the next write."""
        key = (pointer, occurrence)
        attempt = max(1, self._attempts[key])
        event = (
            NewEvent("STEP_FAILED", pointer, occurrence, attempt, problem=outcome, duration_ms=duration_ms)
            if isinstance(outcome, Problem)
            else NewEvent("STEP_SUCCEEDED", pointer, occurrence, attempt, result=outcome, duration_ms=duration_ms)
        )
        self._known[key] = outcome
        if self._calling == key:
            self._calling = None
            await self._write([event], durable=True)
            return
        self._pending.append(event)
        if len(self._pending) >= _MAX_PENDING:
            await self._write([], durable=True)

    async def finish(self, kind: str, state: str, output: Any, problem: Problem | None) -> None:  # noqa: ANN401
        """End the run with everything that was noted."""
        events = [*self._pending, NewEvent(kind, value=output, problem=problem)]
        self._pending = []
        now = datetime.now(UTC)
        await self._database.write(
            lambda transaction: self._rows.finish(transaction, self._lease, events, state, output, problem, now)
        )
        self._notices.tell(self._lease.run.name)

    async def _write(self, more: Sequence[NewEvent], *, durable: bool) -> None:
        events = [*self._pending, *more]
        self._pending = []
        now = datetime.now(UTC)
        cancel = await self._database.write(
            lambda transaction: self._rows.append(transaction, self._lease, events, now), durable=durable
        )
        self.cancel_requested = self.cancel_requested or cancel
        self._notices.tell(self._lease.run.name)
