"""A run's journal while an executor holds the run: what is known of its steps, and what is to be kept next.

Results of steps with an effect are kept at once. Those of others go with the next write, which comes before the next
call, or at the end: they can be made again without harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from mesh.db import Database, Work
from orchestrator.errors import LeaseLostError
from orchestrator.lineage import standing
from orchestrator.notices import Notices
from orchestrator.ports import RunRows
from orchestrator.problem import Problem
from orchestrator.runs import Event, NewEvent, RunLease, StepResult

__all__ = ["HandedBackError", "JournalBrokenError", "Known", "RunCancelledError", "RunJournal"]

_MAX_PENDING = 64
_MAX_PENDING_BYTES = 1024 * 1024

T = TypeVar("T")


class RunCancelledError(Exception):
    """Somebody has asked that the run end."""


class HandedBackError(Exception):
    """The executor stops; another one will go on with the run."""


class JournalBrokenError(Exception):
    """Nothing can be kept at the moment; the run is gone on with from what was kept, later or elsewhere."""


class Known:
    """What journalled events say of a run's steps.

    Args:
        events: in order.
    """

    def __init__(self, events: Iterable[NewEvent]) -> None:
        self.outcomes: dict[tuple[str, int], StepResult | Problem] = {}
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.arguments: dict[tuple[str, int], Any] = {}
        for event in events:
            key = (event.step, event.occurrence)
            if event.kind == "STEP_STARTED":
                self.attempts[key] += 1
                if event.value is not None:
                    self.arguments[key] = event.value
            elif event.kind == "STEP_SUCCEEDED" and event.result is not None:
                self.outcomes[key] = event.result
            elif event.kind == "STEP_FAILED" and event.problem is not None:
                self.outcomes[key] = event.problem


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
        self._pending_bytes = 0
        self._known = Known(standing(event.what for event in events))
        self._at_risk: tuple[str, int] | None = None
        self.cancel_requested = lease.run.cancel_requested

    def committed(self, pointer: str, occurrence: int) -> StepResult | Problem | None:
        """What a step came to, if that is known already."""
        return self._known.outcomes.get((pointer, occurrence))

    def begun_with(self, pointer: str, occurrence: int) -> Any:  # noqa: ANN401 -- any JSON
        """What a step called with when it began before; None where it has not, or has no effect."""
        return self._known.arguments.get((pointer, occurrence))

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

    async def began(self, pointer: str, occurrence: int, arguments: Any) -> None:  # noqa: ANN401 -- any JSON
        """Note that a step is about to call; what was noted before is kept with it."""
        key = (pointer, occurrence)
        self._known.attempts[key] += 1
        self._at_risk = key if arguments is not None else None
        started = NewEvent("STEP_STARTED", pointer, occurrence, self._known.attempts[key], value=arguments)
        await self._write([started], durable=arguments is not None or bool(self._pending))
        self.check_live()

    async def ended(self, pointer: str, occurrence: int, outcome: StepResult | Problem, duration_ms: float) -> None:
        """Note what a step came to; kept at once if it had an effect, else with the next write."""
        key = (pointer, occurrence)
        event = _ending(pointer, occurrence, max(1, self._known.attempts[key]), outcome, duration_ms)
        if self._at_risk == key:
            self._at_risk = None
            await self._write([event], durable=True)
        else:
            await self._later(event)
        self._known.outcomes[key] = outcome

    async def noted(self, pointer: str, occurrence: int, outcome: StepResult | Problem) -> None:
        """Note something on the way that is no step's own end; kept with the next write."""
        await self._later(_ending(pointer, occurrence, 0, outcome, 0.0))
        self._known.outcomes[pointer, occurrence] = outcome

    async def keep(self) -> None:
        """Keep what has only been noted so far."""
        if self._pending:
            await self._write([], durable=True)

    async def finish(self, kind: str, state: str, output: Any, problem: Problem | None) -> None:  # noqa: ANN401
        """End the run with everything that was noted.

        Raises:
            LeaseLostError, JournalBrokenError: as every write.
        """
        events = [*self._pending, NewEvent(kind, value=output, problem=problem)]
        now = datetime.now(UTC)
        await self._kept(
            lambda transaction: self._rows.finish(transaction, self._lease, events, state, output, problem, now)
        )

    async def _later(self, event: NewEvent) -> None:
        self._pending.append(event)
        self._pending_bytes += len(msgspec.json.encode(event.result))
        if len(self._pending) >= _MAX_PENDING or self._pending_bytes >= _MAX_PENDING_BYTES:
            await self._write([], durable=True)

    async def _write(self, more: Sequence[NewEvent], *, durable: bool) -> None:
        events = [*self._pending, *more]
        now = datetime.now(UTC)
        cancel = await self._kept(
            lambda transaction: self._rows.append(transaction, self._lease, events, now), durable=durable
        )
        self._pending = []
        self._pending_bytes = 0
        self.cancel_requested = self.cancel_requested or cancel

    async def _kept(self, work: Work[T], *, durable: bool = True) -> T:
        """What a write returns once it is kept.

        Raises:
            LeaseLostError: somebody else has the run.
            JournalBrokenError: it was not kept, for a reason that is not the run's.
        """
        try:
            result = await self._database.write(work, durable=durable)
        except LeaseLostError:
            raise
        except Exception as error:
            raise JournalBrokenError(str(error)) from error
        self._notices.tell(self._lease.run.name)
        return result


def _ending(pointer: str, occurrence: int, attempt: int, outcome: StepResult | Problem, duration_ms: float) -> NewEvent:
    if isinstance(outcome, Problem):
        return NewEvent("STEP_FAILED", pointer, occurrence, attempt, problem=outcome, duration_ms=duration_ms)
    return NewEvent("STEP_SUCCEEDED", pointer, occurrence, attempt, result=outcome, duration_ms=duration_ms)
