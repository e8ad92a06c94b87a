"""A run's journal while an executor holds the run: what is known of its steps, and what is to be kept next.

Results of steps with an effect are kept at once. Those of others go with the next write, which comes before the next
call, or at the end: they can be made again without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from mesh.db import Database, Transaction, Work
from mesh.resource import tenant_of
from orchestrator.approvals import Answer, Approval, Question, approval_id
from orchestrator.errors import LeaseLostError
from orchestrator.known import Asked, Known, Timer
from orchestrator.lineage import standing
from orchestrator.notices import Notices
from orchestrator.ports import RunRows
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import Event, NewEvent, RunLease, StepKey, StepResult
from orchestrator.traces import History

__all__ = ["MAX_JOURNAL_BYTES", "HandedBackError", "JournalBrokenError", "RunCancelledError", "RunJournal"]

MAX_JOURNAL_BYTES = 16 * 1024 * 1024
_MAX_PENDING = 64
_MAX_PENDING_BYTES = 1024 * 1024

T = TypeVar("T")


class RunCancelledError(Exception):
    """Somebody has asked that the run end."""


class HandedBackError(Exception):
    """The executor stops; another one will go on with the run."""


class JournalBrokenError(Exception):
    """Nothing can be kept at the moment; the run is gone on with from what was kept, later or elsewhere."""


class RunJournal:
    """The journal of one run under one lease.

    Args:
        lease: the right to write.
        events: everything journalled so far.
        database: the service's own database.
        rows: its statements.
        notices: told of every write.
        draining: whether the executor is about to stop.
        max_bytes: how much the run may journal in all; whoever takes it up holds all of it in memory.

    Attributes:
        history: told of steps besides; None where the run's trace is not sampled.
        end: when the run ended, its state and its problem; None while it has not.
    """

    def __init__(
        self,
        lease: RunLease,
        events: Sequence[Event],
        database: Database,
        rows: RunRows,
        notices: Notices,
        draining: Callable[[], bool],
        max_bytes: int = MAX_JOURNAL_BYTES,
    ) -> None:
        self._lease = lease
        self._database = database
        self._rows = rows
        self._notices = notices
        self._draining = draining
        self._pending: list[NewEvent] = []
        self._pending_bytes = 0
        self._max_bytes = max_bytes
        self._bytes = sum(event.size for event in events)
        self._known = Known(standing(event.what for event in events))
        self._at_risk: set[StepKey] = set()
        self.cancel_requested = lease.run.cancel_requested
        self.history: History | None = None
        self.end: tuple[datetime, str, Problem | None] | None = None

    def committed(self, key: StepKey) -> StepResult | Problem | None:
        """What a step came to, if that is known already."""
        return self._known.outcomes.get(key)

    def begun_with(self, key: StepKey) -> Any:  # noqa: ANN401 -- any JSON
        """What a step called with when it began before; None where it has not, or has no effect."""
        return self._known.arguments.get(key)

    def timer(self, key: StepKey) -> Timer | None:
        """From when until when a step waits, if it has begun to."""
        return self._known.timers.get(key)

    def question(self, key: StepKey) -> Question | None:
        """What a step asks, if it has asked."""
        asked = self._known.asked.get(key)
        return asked.question if asked is not None else None

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

    def check_size(self) -> None:
        """Refuse to go on with a run that has journalled all that it may.

        Raises:
            StepFailedError: it has.
        """
        if self._bytes > self._max_bytes:
            raise StepFailedError(self._full(""))

    async def began(self, key: StepKey, arguments: Any) -> None:  # noqa: ANN401 -- any JSON
        """Note that a step is about to call; what was noted before is kept with it.

        Raises:
            StepFailedError: the run has journalled all that it may, as for everything that is noted.
        """
        attempt = self._known.attempts[key] + 1
        started = NewEvent("STEP_STARTED", key.pointer, key.occurrence, attempt, value=arguments, scope=key.scope)
        self._count(started)
        self._known.attempts[key] = attempt
        if arguments is not None:
            self._at_risk.add(key)
        if self.history is not None:
            self.history.note(started)
        await self._write([started], durable=arguments is not None or bool(self._pending))

    async def ended(self, key: StepKey, outcome: StepResult | Problem, duration_ms: float) -> None:
        """Note what a step came to; kept at once if it had an effect, else with the next write."""
        attempt = max(1, self._known.attempts[key])
        event = _ending(key, attempt, outcome, duration_ms)
        full: StepFailedError | None = None
        try:
            self._count(event)
        except StepFailedError as failed:  # what it came to has no room; that it failed has
            full, outcome = failed, failed.problem
            event = _ending(key, attempt, outcome, duration_ms)
        if self.history is not None:
            self.history.note(event)
        if key in self._at_risk:
            self._at_risk.remove(key)
            await self._write([event], durable=True)
        else:
            await self._later(event)
        self._known.outcomes[key] = outcome
        if full is not None:
            raise full

    async def noted(self, key: StepKey, outcome: StepResult | Problem) -> None:
        """Note something on the way that is no step's own end; kept with the next write."""
        event = _ending(key, 0, outcome, 0.0)
        self._count(event)
        await self._later(event)
        self._known.outcomes[key] = outcome

    async def waits(self, key: StepKey, timer: Timer) -> None:
        """Note until when a step waits; kept with the next write, which comes before the run is put aside."""
        value = msgspec.to_builtins(timer)
        event = NewEvent("STEP_WAITING", key.pointer, key.occurrence, value=value, scope=key.scope)
        self._count(event)
        if self.history is not None:
            self.history.note(event)
        await self._later(event)
        self._known.timers[key] = timer

    async def asks(self, key: StepKey, question: Question) -> None:
        """Ask a person, once; what was noted before is kept with it."""
        run, now = self._lease.run, datetime.now(UTC)
        name = self._approval(key)
        earlier = self._known.asked.get(key)
        if earlier is not None and earlier.approval == name:
            return
        asked = Asked(name, question)
        value = msgspec.to_builtins(asked)
        event = NewEvent("INPUT_REQUESTED", key.pointer, key.occurrence, value=value, scope=key.scope)
        self._count(event)
        approval = Approval(
            name, run.uid, run.name, key, "PENDING", question, run.requester.subject, now, now, labels=run.labels
        )

        def add(transaction: Transaction) -> None:
            self._rows.add_approval(transaction, approval)

        if self.history is not None:
            self.history.note(event)
        await self._write([event], durable=True, besides=add)
        self._known.asked[key] = asked

    async def answer(self, key: StepKey) -> Answer | None:
        """What was answered to a step's question, if anything."""
        known = self._known.answers.get(key)
        if known is not None:
            return known
        found = await self._database.read(lambda transaction: self._rows.approval(transaction, self._approval(key)))
        return found.answer if found is not None else None

    async def closes(self, key: StepKey, state: str) -> Answer | None:
        """Wait for no answer any more: EXPIRED or WITHDRAWN; returns the answer if there was one in time."""
        name, now = self._approval(key), datetime.now(UTC)
        found = await self._kept(lambda transaction: self._rows.close_approval(transaction, name, state, now))
        return found.answer if found is not None else None

    def _approval(self, key: StepKey) -> str:
        run = self._lease.run
        return f"tenants/{tenant_of(run.name)}/approvals/{approval_id(run.uid, key, run.attempt)}"

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
        run, now = self._lease.run, datetime.now(UTC)

        def work(transaction: Transaction) -> None:
            self._rows.finish(transaction, self._lease, events, state, output, problem, now)
            if self._known.asked or self._bytes > self._max_bytes:  # then not all of its events were read
                self._rows.withdraw_approvals(transaction, run.name, now)

        await self._kept(work)
        self.end = now, state, problem

    async def put_aside(self, state: str, until: datetime | None) -> None:
        """Let go of the run until a moment or an answer, with everything that was noted.

        Raises:
            LeaseLostError, JournalBrokenError: as every write.
        """
        value = {"until": until.isoformat()} if until is not None else None
        events = [*self._pending, NewEvent("RUN_WAITING", value=value)]
        now = datetime.now(UTC)
        await self._kept(lambda transaction: self._rows.put_aside(transaction, self._lease, events, state, until, now))

    def _count(self, event: NewEvent) -> None:
        """Take room for an event.

        Raises:
            StepFailedError: there is none.
        """
        size = _size_of(event)
        if self._bytes + size > self._max_bytes:
            raise StepFailedError(self._full(event.step.partition("#")[0]))
        self._bytes += size

    def _full(self, pointer: str) -> Problem:
        detail = (
            f"the run's steps have made values of {self._max_bytes} bytes together, all that a run may journal; "
            "pass on less with `output.as`, or divide the work between several runs"
        )
        return Problem.of_kind("runtime", 413, "Journal full", detail, pointer, "JOURNAL_FULL")

    async def _later(self, event: NewEvent) -> None:
        self._pending.append(event)
        self._pending_bytes += _size_of(event)
        if len(self._pending) >= _MAX_PENDING or self._pending_bytes >= _MAX_PENDING_BYTES:
            await self._write([], durable=True)

    async def _write(
        self, more: Sequence[NewEvent], *, durable: bool, besides: Callable[[Transaction], None] | None = None
    ) -> None:
        """Keep what is pending and more; steps at the same time each take along what was noted before them."""
        events = [*self._pending, *more]
        self._pending = []
        self._pending_bytes = 0
        now = datetime.now(UTC)

        def work(transaction: Transaction) -> bool:
            if besides is not None:
                besides(transaction)
            return self._rows.append(transaction, self._lease, events, now)

        self.cancel_requested = await self._kept(work, durable=durable) or self.cancel_requested

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
        except Exception as error:  # whatever it is, it is not the run's, which is worked on again later
            raise JournalBrokenError(str(error)) from error
        self._notices.tell(self._lease.run.name)
        return result


def _size_of(event: NewEvent) -> int:
    return len(msgspec.json.encode((event.result, event.value, event.problem, event.scope)))


def _ending(key: StepKey, attempt: int, outcome: StepResult | Problem, duration_ms: float) -> NewEvent:
    if isinstance(outcome, Problem):
        return NewEvent(
            "STEP_FAILED", key.pointer, key.occurrence, attempt,
            problem=outcome, duration_ms=duration_ms, scope=key.scope,
        )  # fmt: skip
    return NewEvent(
        "STEP_SUCCEEDED", key.pointer, key.occurrence, attempt,
        result=outcome, duration_ms=duration_ms, scope=key.scope,
    )  # fmt: skip
