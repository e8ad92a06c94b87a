"""A run's events in memory, with a crash before or after any one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.identity import Requester
from orchestrator.approvals import Answer, Approval
from orchestrator.errors import LeaseLostError
from orchestrator.flow import Flow
from orchestrator.interpreter import Interpreter
from orchestrator.journal import RunCancelledError, RunJournal
from orchestrator.notices import Notices
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import Event, NewEvent, Run, RunLease
from orchestrator.waits import PutAsideError, Waits

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
        aside: the state in which the run was put aside and until when, while it is.
        approvals: what was asked of people, by name.
        now: the wall clock of the run's waits.
    """

    events: list[Event] = field(default_factory=list)
    crash_at: int = 0
    crash_after: bool = False
    writes: int = 0
    ended: tuple[str, Any, Problem | None] | None = None
    cancel: bool = False
    aside: tuple[str, datetime | None] | None = None
    approvals: dict[str, Approval] = field(default_factory=dict)
    now: datetime = NOW

    async def read(self, work: Callable[[Any], Any]) -> Any:
        """As `mesh.db.Database.read`."""
        return work(None)

    async def write(self, work: Callable[[Any], Any], *, durable: bool = True) -> Any:
        """As `mesh.db.Database.write`."""
        self.writes += 1
        number = self.writes
        await asyncio.sleep(0)  # others at work get on meanwhile, as they do with a real database
        if self.crash_at and number > self.crash_at - (not self.crash_after):  # and from then on nobody writes
            raise Crash
        result = work(None)
        if number == self.crash_at:
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

    def put_aside(
        self, _: Any, lease: RunLease, events: Sequence[NewEvent], state: str, until: datetime | None, now: datetime
    ) -> None:  # fmt: skip
        """As `RunStore.put_aside`."""
        self.append(None, lease, events, now)
        self.aside = (state, until)

    def add_approval(self, _: Any, approval: Approval) -> None:
        """As `RunStore.add_approval`."""
        assert approval.name not in self.approvals, "asked twice"
        self.approvals[approval.name] = approval

    def approval(self, _: Any, name: str) -> Approval | None:
        """As `RunStore.approval`."""
        return self.approvals.get(name)

    def close_approval(self, _: Any, name: str, state: str, now: datetime) -> Approval | None:
        """As `RunStore.close_approval`."""
        if self.approvals[name].state == "PENDING":
            self.approvals[name] = replace(self.approvals[name], state=state)
        return self.approvals[name]

    def withdraw_approvals(self, _: Any, run: str, now: datetime) -> None:
        """As `RunStore.withdraw_approvals`."""
        for name in self.approvals:
            self.close_approval(None, name, "WITHDRAWN", now)

    def pending(self) -> list[Approval]:
        """What waits for an answer."""
        return [approval for approval in self.approvals.values() if approval.state == "PENDING"]

    def answer(self, approval: Approval, outcome: str, data: Any = None) -> None:
        """Answer as a person does: the row and the event at once, and the run is no longer aside."""
        given = Answer(outcome, "tenants/default/principals/boss", self.now, "fine", data)
        self.approvals[approval.name] = replace(approval, state="ANSWERED", answer=given)
        value = msgspec.to_builtins(given)
        key = approval.key
        self.append(
            None,
            None,
            [NewEvent("INPUT_RECEIVED", key.pointer, key.occurrence, value=value, scope=key.scope)],
            NOW,  # type: ignore[arg-type]
        )
        self.aside = None

    def pass_time(self) -> None:
        """Let the moment come that the run waits for."""
        assert self.aside is not None
        assert self.aside[1] is not None, "it waits for no moment"
        self.now = max(self.now, self.aside[1])
        self.aside = None


async def carry_out(flow: Flow, run: Run, memory: Memory, calls: Any, sandbox: Any, budget: int = 1000) -> None:
    """Work on a run once, as the executor does, from what is journalled until its end or a crash.

    A process that goes on with the run after a crash writes again.
    """
    lease = RunLease(run, "me", 1)
    journal = RunJournal(lease, memory.events, memory, memory, Notices(), lambda: False)  # type: ignore[arg-type]
    waits = Waits(lambda: memory.now)
    try:
        await _until_ended(Interpreter(flow, run, journal, calls, sandbox, budget, waits), journal, waits)
    except Crash:
        memory.crash_at = 0
        raise


async def _until_ended(interpreter: Interpreter, journal: RunJournal, waits: Waits) -> None:
    try:
        output = await interpreter.run()
    except PutAsideError:
        await journal.put_aside(waits.state, waits.due)
    except StepFailedError as failed:
        await journal.finish("RUN_FAILED", "FAILED", None, failed.problem)
    except RunCancelledError:
        await journal.finish("RUN_CANCELLED", "CANCELLED", None, None)
    else:
        await journal.finish("RUN_SUCCEEDED", "SUCCEEDED", output, None)
