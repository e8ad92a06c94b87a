"""The SQL of a run's life: every write to a run carries its lease's epoch, every event its sequence.

How runs wait, are found and are begun again is `orchestrator.store.runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Row,
    bindparam,
    column,
    false,
    func,
    insert,
    select,
    table,
    text,
    update,
)

from mesh.db import announce
from mesh.identity import Requester
from mesh.resource import parent_of, tenant_of
from orchestrator.adapters.approval_rows import ApprovalRows
from orchestrator.adapters.aside_rows import AsideRows
from orchestrator.ends import RunEnd
from orchestrator.errors import LeaseLostError
from orchestrator.problem import Problem
from orchestrator.runs import (
    ENDED,
    PAGE_BYTES,
    PUT_ASIDE,
    Event,
    NewEvent,
    Run,
    RunLease,
    Source,
    StepResult,
    rank_of,
)

__all__ = ["JournalStore"]

_READ_TOGETHER = 16

_runs = table(
    "runs",
    *(
        column(name)
        for name in (
            "name", "tenant", "agent", "uid", "revision", "state", "input", "requester", "labels", "output", "problem",
            "create_time", "update_time", "start_time", "end_time", "sequence", "steps", "cancel_requested", "owner",
            "epoch", "lease_expires", "request_id", "request_digest", "wake_time", "priority", "rank", "attempt",
            "crashes", "crashed_steps", "source_run", "source_sequence", "schedule", "scheduled_time", "trace",
            "revision_uid",
        )
    ),
)  # fmt: skip
_events = table(
    "events",
    *(
        column(n)
        for n in ("run", "sequence", "time", "kind", "step", "occurrence", "attempt", "duration_ms", "payload")
    ),
)
_LIVE = _runs.c.state.in_(("QUEUED", "RUNNING"))
_UNENDED = _runs.c.state.in_(("QUEUED", "RUNNING", *PUT_ASIDE))
_INSERT_RUN = insert(_runs)
_INSERT_EVENT = insert(_events)
_ADVANCE = (
    update(_runs)
    .where(
        _runs.c.tenant == bindparam("the_tenant"),
        _runs.c.name == bindparam("the_run"),
        _runs.c.owner == bindparam("the_owner"),
        _runs.c.epoch == bindparam("the_epoch"),
        _runs.c.state == "RUNNING",
    )
    .values(
        sequence=_runs.c.sequence + bindparam("more", type_=Integer),
        steps=_runs.c.steps + bindparam("more_steps", type_=Integer),
        update_time=bindparam("the_time"),
    )
    .returning(_runs.c.sequence, _runs.c.cancel_requested)
)
"""Built once: every step goes through it, and building it takes longer than running it."""


class _Payload(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event holds besides its columns."""

    result: StepResult | None = None
    value: Any = None
    problem: Problem | None = None
    scope: str = ""


class JournalStore(AsideRows, ApprovalRows):
    """Statements on a connection; each method runs inside the caller's transaction.

    Args:
        ended: told of each run that ends, in the transaction that ends it.
    """

    def __init__(self, ended: Callable[[Connection, RunEnd], None] = lambda _connection, _end: None) -> None:
        self._ended = ended

    def add(self, connection: Connection, run: Run, request_id: str, digest: str) -> None:
        """Keep a new run, with RUN_CREATED as its first event."""
        self._insert(connection, run, request_id, digest)
        self._journal(connection, run.name, 0, [NewEvent("RUN_CREATED")], run.create_time.isoformat())

    @staticmethod
    def _insert(connection: Connection, run: Run, request_id: str, digest: str) -> None:
        now = run.create_time.isoformat()
        values = {
            "name": run.name,
            "tenant": tenant_of(run.name),
            "agent": parent_of(run.name),
            "uid": run.uid,
            "revision": run.revision,
            "state": run.state,
            "input": _text(run.input),
            "requester": _text(run.requester),
            "labels": _text(run.labels),
            "create_time": now,
            "update_time": now,
            "sequence": run.sequence,
            "steps": run.steps,
            "cancel_requested": False,
            "epoch": 0,
            "request_id": request_id or None,
            "request_digest": digest,
            "priority": run.priority,
            "rank": rank_of(run.create_time, run.priority),
            "attempt": run.attempt,
            "crashes": 0,
            "crashed_steps": 0,
            "source_run": run.source.run if run.source else None,
            "source_sequence": run.source.sequence if run.source else None,
            "schedule": run.schedule or None,
            "scheduled_time": run.scheduled_time.isoformat() if run.scheduled_time else None,
            "trace": run.trace or None,
            "revision_uid": run.revision_uid or None,
        }
        connection.execute(_INSERT_RUN, values)

    def get(self, connection: Connection, name: str) -> Run | None:
        """One run."""
        row = connection.execute(select(_runs).where(*_named(name))).one_or_none()
        return _run(row) if row is not None else None

    def by_request(self, connection: Connection, agent: str, request_id: str) -> tuple[Run, str] | None:
        """What an earlier request with this id created, and that request's digest."""
        statement = select(_runs).where(*_of(agent), _runs.c.request_id == request_id)
        row = connection.execute(statement).one_or_none()
        return (_run(row), row.request_digest) if row is not None else None

    def digest_of(self, connection: Connection, name: str) -> str:
        """The digest of the request that created the run."""
        return str(connection.execute(select(_runs.c.request_digest).where(*_named(name))).scalar_one())

    def live(self, connection: Connection, agent: str) -> int:
        """How many runs of an agent have not ended."""
        return int(connection.execute(select(func.count()).where(*_of(agent), _UNENDED)).scalar_one())

    def live_counts(self, connection: Connection, tenant: str) -> list[tuple[str, str, int]]:
        """How many runs of a tenant have not ended, by agent and state."""
        # States stand in the text, or SQLite could not use the indexes made for them.
        found: list[tuple[str, str, int]] = []
        for states in ("state = 'QUEUED'", "state = 'RUNNING'", "state IN ('WAITING', 'WAITING_INPUT')"):
            counted = select(_runs.c.agent, _runs.c.state, func.count()).where(text(states), _runs.c.tenant == tenant)
            rows = connection.execute(counted.group_by(_runs.c.agent, _runs.c.state))
            found += [(row[0], row[1], row[2]) for row in rows]
        return found

    def events(self, connection: Connection, name: str, after: int, limit: int) -> list[Event]:
        """Events after a sequence, in order."""
        statement = select(_events).where(_events.c.run == name, _events.c.sequence > after)
        return [_event(row) for row in connection.execute(statement.order_by(_events.c.sequence).limit(limit))]

    def tail(self, connection: Connection, name: str, after: int, limit: int) -> tuple[str, int, list[Event]] | None:
        """A run's state, the sequence of its newest event, and its events after a sequence; all of one moment.

        There are fewer events than `limit` where they are large.
        """
        row = connection.execute(select(_runs.c.state, _runs.c.sequence).where(*_named(name))).one_or_none()
        if row is None:
            return None
        events: list[Event] = []
        while len(events) < limit and sum(event.size for event in events) < PAGE_BYTES:
            some = self.events(connection, name, after + len(events), min(_READ_TOGETHER, limit - len(events)))
            events += some
            if len(some) < _READ_TOGETHER:
                break
        return row.state, row.sequence, events

    def append(self, connection: Connection, lease: RunLease, events: Sequence[NewEvent], now: datetime) -> bool:
        """Journal events of a run that is still held; returns whether somebody has asked to cancel it.

        Raises:
            LeaseLostError: somebody else holds the run, or it has ended.
        """
        row = self._advance(connection, lease, events, now, {})
        return bool(row.cancel_requested)

    def finish(
        self,
        connection: Connection,
        lease: RunLease,
        events: Sequence[NewEvent],
        state: str,
        output: Any,  # noqa: ANN401 -- any JSON
        problem: Problem | None,
        now: datetime,
    ) -> None:
        """Journal the last events and end the run, unless it has ended.

        Raises:
            LeaseLostError: as `append`.
        """
        values = {
            "state": state,
            "output": _text(output),
            "problem": _text(problem) if problem is not None else None,
            "end_time": now.isoformat(),
            "owner": None,
            "lease_expires": None,
        }
        self._advance(connection, lease, events, now, values)

    def renew(
        self, connection: Connection, owner: str, names: Collection[str], until: datetime
    ) -> Sequence[tuple[str, bool]]:
        """Hold runs until then; returns those that are still held, and whether somebody has asked to cancel each."""
        statement = (
            update(_runs)
            .where(_runs.c.owner == owner, _runs.c.name.in_(names), _runs.c.state == "RUNNING")
            .values(lease_expires=until.isoformat())
            .returning(_runs.c.name, _runs.c.cancel_requested)
        )
        return [(row.name, bool(row.cancel_requested)) for row in connection.execute(statement)]

    def release(self, connection: Connection, owner: str, name: str | None = None) -> None:
        """Let go of a run, or of everything that an owner holds: others may take it at once."""
        held = [_runs.c.owner == owner, _LIVE, *(_named(name) if name is not None else ())]
        connection.execute(update(_runs).where(*held).values(lease_expires=None, owner=None))

    def request_cancel(self, connection: Connection, name: str, now: datetime) -> Run | None:
        """Note that a run is to end. One that nobody works on ends at once; one that has ended stays as it is."""
        asked = (*_named(name), _UNENDED, _runs.c.cancel_requested == false())
        if self._move(connection, name, asked, NewEvent("CANCEL_REQUESTED"), now, {"cancel_requested": True}):
            waiting = (*_named(name), _runs.c.state.in_(("QUEUED", *PUT_ASIDE)))
            ended = {"state": "CANCELLED", "end_time": now.isoformat()}
            self._move(connection, name, waiting, NewEvent("RUN_CANCELLED"), now, ended)
        return self.get(connection, name)

    def _move(
        self,
        connection: Connection,
        name: str,
        where: Sequence[ColumnElement[bool]],
        event: NewEvent,
        now: datetime,
        values: dict[str, Any],
    ) -> bool:
        """Journal one event without a lease, where the run is still as it must be for that."""
        moved = {"sequence": _runs.c.sequence + 1, "update_time": now.isoformat(), **values}
        row = connection.execute(update(_runs).where(*where).values(moved).returning(_runs.c.sequence)).one_or_none()
        if row is None:
            return False
        self._journal(connection, name, row.sequence - 1, [event], now.isoformat())
        self._tell(connection, name, values)
        return True

    def _tell(self, connection: Connection, name: str, values: dict[str, Any]) -> None:
        """Tell of a run that ends with these values."""
        if values.get("state") in ENDED:
            columns = (_runs.c[name] for name in ("tenant", "agent", "requester", "create_time", "steps"))
            row = connection.execute(select(*columns).where(*_named(name))).one()
            problem = msgspec.json.decode(values["problem"], type=Problem) if values.get("problem") else None
            requester = msgspec.json.decode(row.requester, type=Requester)
            begun, ended = datetime.fromisoformat(row.create_time), datetime.fromisoformat(values["end_time"])
            end = RunEnd(
                name, row.tenant, row.agent, requester.subject, values["state"], begun, ended, row.steps, problem
            )
            self._ended(connection, end)

    def _advance(
        self,
        connection: Connection,
        lease: RunLease,
        events: Sequence[NewEvent],
        now: datetime,
        values: dict[str, Any],
    ) -> Row[Any]:
        """Move a run's sequence on, guarded by its lease, and journal the events under the new numbers."""
        given = {
            "the_tenant": tenant_of(lease.run.name),
            "the_run": lease.run.name,
            "the_owner": lease.owner,
            "the_epoch": lease.epoch,
            "the_time": now.isoformat(),
            "more": len(events),
            "more_steps": sum(event.kind == "STEP_SUCCEEDED" and event.attempt > 0 for event in events),
        }
        row = connection.execute(_ADVANCE.values(values) if values else _ADVANCE, given).one_or_none()
        if row is None:
            raise LeaseLostError(f"{lease.run.name} is no longer held by this orchestrator", resource=lease.run.name)
        self._journal(connection, lease.run.name, row.sequence - len(events), events, now.isoformat())
        self._tell(connection, lease.run.name, values)
        return row

    @staticmethod
    def _journal(connection: Connection, name: str, after: int, events: Sequence[NewEvent], now: str) -> None:
        rows = [
            {
                "run": name,
                "sequence": after + number,
                "time": now,
                "kind": event.kind,
                "step": event.step,
                "occurrence": event.occurrence,
                "attempt": event.attempt,
                "duration_ms": event.duration_ms,
                "payload": _text(_Payload(event.result, event.value, event.problem, event.scope)),
            }
            for number, event in enumerate(events, 1)
        ]
        connection.execute(_INSERT_EVENT, rows)
        announce(connection, "runs", name)
        if any(event.kind == "CANCEL_REQUESTED" for event in events):
            announce(connection, "cancellations", name)


def _named(name: str) -> tuple[ColumnElement[bool], ...]:
    return (_runs.c.tenant == tenant_of(name), _runs.c.name == name)


def _of(agent: str) -> tuple[ColumnElement[bool], ...]:
    return (_runs.c.tenant == tenant_of(agent), _runs.c.agent == agent)


def _text(value: Any) -> str:  # noqa: ANN401 -- any JSON
    return msgspec.json.encode(value).decode()


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _run(row: Row[Any]) -> Run:
    return Run(
        name=row.name,
        uid=row.uid,
        revision=row.revision,
        state=row.state,
        input=msgspec.json.decode(row.input),
        requester=msgspec.json.decode(row.requester, type=Requester),
        create_time=datetime.fromisoformat(row.create_time),
        update_time=datetime.fromisoformat(row.update_time),
        sequence=row.sequence,
        steps=row.steps,
        output=msgspec.json.decode(row.output) if row.output else None,
        problem=msgspec.json.decode(row.problem, type=Problem) if row.problem else None,
        start_time=_moment(row.start_time),
        end_time=_moment(row.end_time),
        cancel_requested=bool(row.cancel_requested),
        labels=msgspec.json.decode(row.labels),
        priority=row.priority,
        attempt=row.attempt,
        source=Source(row.source_run, row.source_sequence) if row.source_run else None,
        schedule=row.schedule or "",
        scheduled_time=_moment(row.scheduled_time),
        trace=row.trace or "",
        revision_uid=row.revision_uid or "",
        size=len(row.input) + len(row.output or ""),
    )


def _event(row: Row[Any]) -> Event:
    payload = msgspec.json.decode(row.payload, type=_Payload)
    what = NewEvent(
        row.kind, row.step, row.occurrence, row.attempt, payload.result, payload.value, payload.problem,
        row.duration_ms, payload.scope,
    )  # fmt: skip
    return Event(row.sequence, datetime.fromisoformat(row.time), what, len(row.payload.encode()))
