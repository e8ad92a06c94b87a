"""The executor: claims runs that nobody holds, works on many at once, holds its leases, hands them back in the end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from mesh.db import Database, DatabaseUnavailableError, Transaction
from mesh.errors import TiationError
from mesh.sandbox import SandboxPool
from mesh.tracing import Span, current_trace
from orchestrator.alarm import LOOK_S, Alarm
from orchestrator.errors import LeaseLostError
from orchestrator.flow import Flow
from orchestrator.interpreter import Interpreter
from orchestrator.journal import (
    MAX_JOURNAL_BYTES,
    HandedBackError,
    JournalBrokenError,
    RunCancelledError,
    RunJournal,
)
from orchestrator.notices import Notices
from orchestrator.ports import CallsFor, RunRows
from orchestrator.problem import Problem, StepFailedError, problem_of
from orchestrator.runs import Event, Run, RunLease
from orchestrator.traces import History, Trail, context_of, run_span, step_spans
from orchestrator.waits import PutAsideError

__all__ = ["Executor", "Limits"]

_EVENTS_AT_ONCE = 32
_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an executor takes on.

    Attributes:
        concurrent_runs: at most so many runs at once.
        lease_s: how long a run is held without word from its executor.
        step_budget: how many steps a run may take.
        max_claims: after so many executors in a row that fell silent over a run, it is given up.
        max_journal_bytes: how much a run may journal in all.
    """

    concurrent_runs: int
    lease_s: float
    step_budget: int
    max_claims: int = 10
    max_journal_bytes: int = MAX_JOURNAL_BYTES


@dataclass(slots=True)
class _Work:
    """A run under way: its task, and what tells it to end."""

    task: asyncio.Task[None]
    journal: RunJournal | None = None
    interpreter: Interpreter | None = None
    cancelled: bool = False


class Executor:
    """Works on runs.

    Args:
        database: the service's own database.
        rows: its statements.
        flow_of: the flow of the revision that a run is pinned to.
        calls_for: the services as a requester reaches them.
        sandbox: evaluates expressions.
        notices: told of every write.
        limits: how much to take on.
        spans: sends the spans of runs; None where there is no collector.
    """

    def __init__(
        self,
        database: Database,
        rows: RunRows,
        flow_of: Callable[[Run], Awaitable[Flow]],
        calls_for: CallsFor,
        sandbox: SandboxPool,
        notices: Notices,
        limits: Limits,
        spans: Callable[[Span], None] | None = None,
    ) -> None:
        self._database = database
        self._rows = rows
        self._flow_of = flow_of
        self._calls_for = calls_for
        self._sandbox = sandbox
        self._notices = notices
        self._limits = limits
        self._spans = spans
        self._owner = uuid.uuid4().hex
        self._works: dict[str, _Work] = {}
        self._wake = asyncio.Event()
        self._draining = False
        self._loops: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("orchestrator.executor")

    async def start(self) -> None:
        """Begin to claim runs."""
        loop = asyncio.get_running_loop()
        alarm = Alarm(self._database, self._rows, self.wake, min(LOOK_S, self._limits.lease_s / 5))
        forever = (self._claim_forever(), self._renew_forever(), alarm.run())
        self._loops = [loop.create_task(each) for each in forever]

    def wake(self) -> None:
        """Look for runs at once."""
        self._wake.set()

    def cancel(self, run: str) -> None:
        """Hear that a run is to end."""
        work = self._works.get(run)
        if work is not None:
            work.cancelled = True
            if work.journal is not None:
                work.journal.cancel_requested = True
            if work.interpreter is not None:
                work.interpreter.interrupt()

    def hear(self, run: str) -> None:
        """Hear that an answer has come for a run; one that was put aside is taken up."""
        work = self._works.get(run)
        if work is not None and work.interpreter is not None:
            work.interpreter.waits.nudge()
        self.wake()

    def hear_cancellation(self, run: str | None) -> None:
        """Hear from another process that a run is to end; what may have been missed comes with the next renewal."""
        if run is not None:
            self.cancel(run)

    async def drain(self) -> None:
        """Take nothing more on; let runs come to the end of their step, then hand them back."""
        self._draining = True
        self._wake.set()
        for work in self._works.values():
            if work.interpreter is not None:
                work.interpreter.waits.nudge()
        tasks = [work.task for work in self._works.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAIN_S)

    async def stop(self) -> None:
        """Stop working; whoever comes next goes on at once."""
        self._draining = True
        for task in [*self._loops, *(work.task for work in self._works.values())]:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):  # each has logged what ended it
                await task
        await self._release(None)

    async def _claim_forever(self) -> None:
        while not self._draining:
            self._wake.clear()
            try:
                claimed = await self._claim()
            except Exception as error:  # noqa: BLE001 -- whatever ails the database now, runs are claimed when it is over
                self._log.warning("runs not claimed", error=str(error))
                claimed = 0
            if not claimed:  # what is let go of elsewhere, or could not be claimed now, is found by the alarm
                await self._wake.wait()

    async def _claim(self) -> int:
        free = self._limits.concurrent_runs - len(self._works)
        if free <= 0:
            return 0
        now = datetime.now(UTC)
        until = now + timedelta(seconds=self._limits.lease_s)
        held = tuple(self._works)  # never a run that is worked on here, even if its lease was not renewed in time
        buried: list[Run] = []

        def work(transaction: Transaction) -> Sequence[RunLease]:
            buried.clear()  # a write may be done twice
            return self._rows.claim(
                transaction, self._owner, now, until, free, held, self._limits.max_claims, buried.append
            )

        leases = await self._database.write(work)
        for run in buried:
            self.tell_of_end(run)
        for lease in leases:
            task = asyncio.get_running_loop().create_task(self._work(lease))
            self._works[lease.run.name] = _Work(task)
        return len(leases)

    async def _renew_forever(self) -> None:
        """Hold what is worked on; a third of a lease is left for a slow disk."""
        while True:
            await asyncio.sleep(self._limits.lease_s / 3)
            names = tuple(self._works)
            if not names:
                continue
            until = datetime.now(UTC) + timedelta(seconds=self._limits.lease_s)
            try:
                held = await self._database.write(partial(self._renewal, names, until), durable=False)
            except Exception as error:  # noqa: BLE001 -- as for claims; fencing keeps a lost lease from doing harm
                self._log.warning("leases not renewed", error=str(error))
                continue
            for name, cancel_requested in held:
                if cancel_requested:
                    self.cancel(name)

    def _renewal(self, names: tuple[str, ...], until: datetime, transaction: Transaction) -> Sequence[tuple[str, bool]]:
        return self._rows.renew(transaction, self._owner, names, until)

    async def _release(self, name: str | None) -> None:
        """Let go of one run or of all; where that fails, their leases run out instead."""
        try:
            await self._database.write(lambda transaction: self._rows.release(transaction, self._owner, name))
        except Exception as error:  # noqa: BLE001 -- see above
            self._log.warning("runs not handed back", error=str(error))

    async def _work(self, lease: RunLease) -> None:
        """Work on one run until it ends, is handed back, or is lost to somebody else."""
        name = lease.run.name
        try:
            await self._run(lease)
        except HandedBackError:
            await self._release(name)
        except LeaseLostError:
            self._log.info("run lost to another executor", run=name)
        except (JournalBrokenError, DatabaseUnavailableError) as error:
            self._log.warning("run paused: its journal cannot be read or written", run=name, error=str(error))
        except Exception as error:  # noqa: BLE001 -- the executor goes on with the others
            self._log.exception("run paused by a mistake of ours", run=name, exc_info=error)
        finally:  # a lease that is not handed back runs out; then the run is gone on with
            self._works.pop(name, None)
            self._notices.tell(name)
            self._wake.set()

    def tell_of_end(self, run: Run) -> None:
        """Send the span of a run that has ended while nobody worked on it."""
        if self._spans is not None and run.end_time is not None:
            span = run_span(run, run.create_time, run.end_time, run.state, run.steps, run.problem)
            if span is not None:
                self._spans(span)

    async def _run(self, lease: RunLease) -> None:
        """Work on one run; its spans are sent once it has ended or is put aside, and not where that is not kept."""
        run = lease.run
        of_run = context_of(run)
        current_trace.set(of_run)  # what the run calls is told, sampled or not, so that its records name the trace
        if of_run is None or not of_run.sampled or self._spans is None:
            await self._carry_out(lease, None)
            return
        trail = Trail(run, of_run)
        journal = await self._carry_out(lease, trail)
        if journal.history is None:
            return
        for span in step_spans(trail, journal.history):
            self._spans(span)
        if journal.end is not None:
            ended, state, problem = journal.end
            whole = run_span(run, journal.history.begun, ended, state, journal.history.steps, problem)
            if whole is not None:
                self._spans(whole)

    async def _carry_out(self, lease: RunLease, trail: Trail | None) -> RunJournal:
        run = lease.run
        most = self._limits.max_journal_bytes
        events = await self._database.read(lambda transaction: self._journalled(transaction, run.name, most))
        journal = RunJournal(lease, events, self._database, self._rows, self._notices, lambda: self._draining, most)
        journal.history = History(run, events) if trail is not None else None
        work = self._works[run.name]
        work.journal = journal
        journal.cancel_requested = journal.cancel_requested or work.cancelled
        try:
            journal.check_size()
            flow = await self._flow(run)
            budget = self._limits.step_budget
            interpreter = Interpreter(flow, run, journal, self._calls_for(run), self._sandbox, budget, trail=trail)
            work.interpreter = interpreter
            output = await interpreter.run()
        except RunCancelledError:
            await journal.finish("RUN_CANCELLED", "CANCELLED", None, None)
        except StepFailedError as failed:
            await journal.finish("RUN_FAILED", "FAILED", None, failed.problem)
        except HandedBackError:
            await journal.keep()
            raise
        except PutAsideError:
            await journal.put_aside(interpreter.waits.state, interpreter.waits.due)
        except (JournalBrokenError, LeaseLostError, DatabaseUnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 -- a mistake of ours ends the run, not the executor
            self._log.exception("run given up for a mistake of ours", run=run.name, exc_info=error)
            detail = "something went wrong on our side; the orchestrator's log says more"
            problem = Problem.of_kind("runtime", 500, "Internal error", detail, "", "INTERNAL")
            await journal.finish("RUN_DEAD_LETTERED", "DEAD_LETTERED", None, problem)
        else:
            if journal.cancel_requested:
                await journal.finish("RUN_CANCELLED", "CANCELLED", None, None)
            else:
                await journal.finish("RUN_SUCCEEDED", "SUCCEEDED", output, None)
        return journal

    def _journalled(self, transaction: Transaction, name: str, most: int) -> list[Event]:
        """A run's events in order, and no more once they are larger than they may be."""
        events: list[Event] = []
        size = 0
        while size <= most:
            some = self._rows.events(transaction, name, len(events), _EVENTS_AT_ONCE)
            events += some
            size += sum(event.size for event in some)
            if len(some) < _EVENTS_AT_ONCE:
                break
        return events

    async def _flow(self, run: Run) -> Flow:
        try:
            return await self._flow_of(run)
        except DatabaseUnavailableError:
            raise
        except TiationError as error:
            problem = problem_of(error, "")
            title = "The run's revision cannot be carried out"
            raise StepFailedError(
                Problem.of_kind("configuration", problem.status, title, problem.detail, "", problem.reason)
            ) from None
