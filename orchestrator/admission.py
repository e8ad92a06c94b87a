"""Letting runs in: which revision, which priority, whether the queue has room; the same for users, forks and schedules.

What then happens to them is the executor's.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from mesh.catalogue import AlreadyExistsError, NotFoundError
from mesh.db import Database, Transaction
from mesh.entries import Creation, Entry
from mesh.errors import InvalidError
from mesh.identity import Requester
from mesh.resource import parent_of
from orchestrator.agents import Agent, Agents, Revision, revision_name, revision_uid
from orchestrator.errors import InputTooLargeError, QueueFullError
from orchestrator.flow import Flow
from orchestrator.lineage import check_compatible, copies_no_step, fork_point, redrive
from orchestrator.ports import RunRows
from orchestrator.runs import Event, Run, Source
from orchestrator.traces import trace_of_call
from orchestrator.traffic import pick_revision
from orchestrator.values import fault_of

__all__ = ["Admission", "Fork", "Wanted"]

_ALL_EVENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that somebody wants.

    Attributes:
        agent: whose.
        run_id: the last part of its name; empty for a new one.
        input: what it begins with.
        requester: on whose behalf.
        labels: the caller's.
        priority: 0 to 9; None for the agent's own.
        schedule: the schedule that wants it; empty for all others.
        scheduled_time: the time for which it does.
        trace: as `Run.trace`; empty for where the call that wants it stands.
    """

    agent: str
    run_id: str
    input: Any
    requester: Requester
    labels: dict[str, str] = field(default_factory=dict)
    priority: int | None = None
    schedule: str = ""
    scheduled_time: datetime | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Fork:
    """A fork that somebody wants.

    Attributes:
        source: the run to begin like.
        after_sequence: the last event to copy; 0 for none of a step.
        step: the first step to do again; empty for none such.
        run_id: the last part of its name; empty for a new one.
        requester: on whose behalf.
        revision: another revision; empty for the source's.
        labels: the caller's; empty for the source's.
        input: another input, where `replaces_input`.
    """

    source: str
    after_sequence: int
    step: str
    run_id: str
    requester: Requester
    revision: str
    labels: dict[str, str]
    input: Any
    replaces_input: bool


class Admission:
    """Lets runs in.

    Args:
        database: the service's own database.
        agents: knows the agents.
        rows: statements for runs.
        max_queued: the most runs of one tenant that wait; 0 for no limit.
    """

    def __init__(self, database: Database, agents: Agents, rows: RunRows, max_queued: int) -> None:
        self._database = database
        self._agents = agents
        self._rows = rows
        self._max_queued = max_queued

    async def create(self, wanted: Wanted, creation: Creation) -> Run:
        """Keep a new run; the same request again returns what the first one made.

        Raises:
            NotFoundError: there is no such agent.
            AlreadyExistsError: the name or the request id was used for something else.
            InvalidError: the priority is above the agent's highest.
            InputTooLargeError, QueueFullError: as they say.
        """
        fault = fault_of(wanted.input)
        if fault:
            raise InputTooLargeError(f"run.input {fault}")
        wanted = replace(wanted, trace=wanted.trace or trace_of_call())
        return await self._database.write(lambda transaction: self.admit(transaction, wanted, creation)[0])

    def admit(self, transaction: Transaction, wanted: Wanted, creation: Creation) -> tuple[Run, bool]:
        """As `create`, in the caller's transaction; also returns whether the run is new."""
        agent = self._agents.found(transaction, Agent, wanted.agent)
        run = self._new(agent, wanted)
        earlier = self._earlier(transaction, run.name, creation)
        if earlier is not None:
            return earlier, False
        self._check_room(transaction, agent)
        self._rows.add(transaction, run, creation.request_id, creation.digest)
        return run, True

    async def fork(self, wanted: Fork, creation: Creation) -> Run:
        """Keep a new run that begins with a copy of the source's first events.

        Raises:
            NotFoundError: there is no such run or revision.
            InvalidError: the source has no such event or step, or the input cannot be replaced there.
            RevisionIncompatibleError: what was done is not the same in that revision.
            RevisionReplacedError: the source's revision is gone.
            AlreadyExistsError, InputTooLargeError, QueueFullError: as for `create`.
        """
        fault = fault_of(wanted.input)
        if fault:
            raise InputTooLargeError(f"input {fault}")
        source, events = await self._database.read(lambda transaction: self._source(transaction, wanted.source))
        last = fork_point(events, wanted.after_sequence, wanted.step)
        prefix = [event.what for event in events[:last]]
        if wanted.replaces_input and not copies_no_step(prefix):
            raise InvalidError("input", "steps that are copied were done with the source's input; fork from the start")
        revision = wanted.revision or source.revision
        if revision != source.revision:
            old, new = await self._flow(source, source.revision), await self._flow(source, revision)
            check_compatible(prefix, old, new)
        forked = _forked(source, wanted, revision, Source(source.name, last), prefix)
        return await self._database.write(lambda transaction: self._keep_fork(transaction, forked, creation))

    def redrive(self, transaction: Transaction, name: str, principal: str, now: datetime) -> Run:
        """Queue a run that has failed again, in the caller's transaction.

        Raises:
            NotFoundError: there is no such run.
            RevisionReplacedError: its revision is gone.
            RunNotRedrivableError: it has not failed.
        """
        run = self._rows.get(transaction, name)
        if run is None:
            raise NotFoundError(name)
        self._agents.check_revision(transaction, run)
        return redrive(transaction, self._rows, run, principal, now)

    async def _flow(self, source: Run, revision: str) -> Flow:
        if parent_of(revision) != parent_of(source.name):
            raise InvalidError("revision", f"must be one of {parent_of(source.name)}")
        return await self._agents.flow_of(revision)

    def _source(self, transaction: Transaction, name: str) -> tuple[Run, list[Event]]:
        run = self._rows.get(transaction, name)
        if run is None:
            raise NotFoundError(name)
        self._agents.check_revision(transaction, run)
        return run, self._rows.events(transaction, name, 0, _ALL_EVENTS)

    def _keep_fork(self, transaction: Transaction, run: Run, creation: Creation) -> Run:
        agent = self._agents.found(transaction, Agent, parent_of(run.name))
        earlier = self._earlier(transaction, run.name, creation)
        if earlier is not None:
            return earlier
        kept = self._agents.found(transaction, Revision, run.revision)
        run = replace(run, revision_uid=kept.uid)
        self._check_room(transaction, agent)
        assert run.source is not None  # noqa: S101 -- a fork has one
        self._rows.fork(transaction, run, run.source, run.requester.subject, creation.request_id, creation.digest)
        return run

    def _new(self, agent: Entry[Agent], wanted: Wanted) -> Run:
        queue, now = agent.body.queue, datetime.now(UTC)
        highest = max(queue.priority, queue.max_priority)
        priority = queue.priority if wanted.priority is None else wanted.priority
        if priority > highest:
            raise InvalidError("run.priority", f"is {priority}; {agent.name} allows {highest} at most")
        name = f"{agent.name}/runs/{wanted.run_id or _new_id(now)}"
        number = pick_revision(agent.body.traffic, agent.body.revision, name)
        return Run(
            name=name,
            uid=str(uuid.uuid4()),
            revision=revision_name(agent.name, number),
            revision_uid=revision_uid(agent.uid, number),
            state="QUEUED",
            input=wanted.input,
            requester=wanted.requester,
            create_time=now,
            update_time=now,
            sequence=1,
            labels=wanted.labels,
            priority=priority,
            schedule=wanted.schedule,
            scheduled_time=wanted.scheduled_time,
            trace=wanted.trace,
        )

    def _check_room(self, transaction: Transaction, agent: Entry[Agent]) -> None:
        full = self._rows.is_queue_full(transaction, agent.name, agent.body.queue.max_queued, self._max_queued)
        if full:
            raise QueueFullError(full)

    def _earlier(self, transaction: Transaction, name: str, creation: Creation) -> Run | None:
        """What the same request made before.

        Raises:
            AlreadyExistsError: the name or the request id was used for something else.
        """
        if creation.request_id:
            earlier = self._rows.by_request(transaction, parent_of(name), creation.request_id)
            if earlier is not None:
                if earlier[1] != creation.digest:
                    raise AlreadyExistsError(earlier[0].name)
                return earlier[0]
        current = self._rows.get(transaction, name)
        if current is not None and self._rows.digest_of(transaction, name) != creation.digest:
            raise AlreadyExistsError(name)
        return current


def _forked(source: Run, wanted: Fork, revision: str, begins: Source, prefix: list[Any]) -> Run:
    now = datetime.now(UTC)
    return replace(
        source,
        name=f"{parent_of(source.name)}/runs/{wanted.run_id or _new_id(now)}",
        uid=str(uuid.uuid4()),
        revision=revision,
        state="QUEUED",
        input=wanted.input if wanted.replaces_input else source.input,
        requester=wanted.requester,
        create_time=now,
        update_time=now,
        sequence=begins.sequence + 1,
        steps=sum(event.kind == "STEP_SUCCEEDED" and event.attempt > 0 for event in prefix),
        output=None,
        problem=None,
        start_time=None,
        end_time=None,
        cancel_requested=False,
        labels=wanted.labels or source.labels,
        attempt=1,
        source=begins,
        schedule="",
        scheduled_time=None,
        trace=trace_of_call(),
        size=0,
    )


def _new_id(now: datetime) -> str:
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"
