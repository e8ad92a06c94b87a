"""A run's events in memory, with a crash before or after any one write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mesh.identity import Requester
from orchestrator.errors import LeaseLostError
from orchestrator.flow import Flow
from orchestrator.interpreter import Interpreter
from orchestrator.journal import RunCancelledError, RunJournal
from orchestrator.notices import Notices
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import Event, NewEvent, Run, RunLease

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "tenants/default/agents/a/runs/r1"


class Crash(BaseException):
    """The process is gone."""


def a_run(given: Any = None, name: str = RUN) -> Run:
    """A run that has just been created."""
    agent = name.rsplit("/", 2)[0]
    requester = Requester("default", "tenants/default/principals/p")
    return Run(name, "uid-" + name, f"{agent}/revisions/r1", "QUEUED", given, requester, NOW, NOW, 1)


@dataclass
class Memory:
    """The database and the rows of one run, in one: `write` runs at once, an append is an append.

    Attributes:
        events: what was committed.
        crash_at: the number of the write, from 1, at which the process dies; 0 for never.
        crash_after: true to die after that write was committed, false before.
        writes: how many there were.
        ended: the final state, once there is one.
    """

    events: list[Event] = field(default_factory=list)
    crash_at: int = 0
    crash_after: bool = False
    writes: int = 0
    ended: tuple[str, Any, Problem | None] | None = None
    cancel: bool = False

    async def write(self, work: Callable[[Any], Any], *, durable: bool = True) -> Any:
        """As `mesh.db.Database.write`."""
        self.writes += 1
        if self.writes == self.crash_at and not self.crash_after:
            raise Crash
        result = work(None)
        if self.writes == self.crash_at:
            raise Crash
        return result

    def append(self, _: Any, lease: RunLease, events: Sequence[NewEvent], now: datetime) -> bool:
        """As `RunStore.append`."""
        if self.ended is not None:
            raise LeaseLostError("it has ended")
        for event in events:
            self.events.append(Event(len(self.events) + 1, now, event))
        return self.cancel

    def finish(
        self, _: Any, lease: RunLease, events: Sequence[NewEvent], state: str, output: Any, problem: Problem | None,
        now: datetime,
    ) -> None:  # fmt: skip
        """As `RunStore.finish`."""
        self.append(None, lease, events, now)
        self.ended = (state, output, problem)


async def carry_out(flow: Flow, run: Run, memory: Memory, calls: Any, sandbox: Any, budget: int = 1000) -> None:
    """Work on a run once, as the executor does, from what is journalled until its end or a crash."""
    lease = RunLease(run, "me", 1)
    journal = RunJournal(lease, memory.events, memory, memory, Notices(), lambda: False)  # type: ignore[arg-type]
    try:
        output = await Interpreter(flow, run, journal, calls, sandbox, budget).run()
    except StepFailedError as failed:
        await journal.finish("RUN_FAILED", "FAILED", None, failed.problem)
    except RunCancelledError:
        await journal.finish("RUN_CANCELLED", "CANCELLED", None, None)
    else:
        await journal.finish("RUN_SUCCEEDED", "SUCCEEDED", output, None)
