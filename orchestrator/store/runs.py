"""The SQL of runs that wait, are looked for, and are begun again: claims, lists, forks, redrives, limits.

What happens to a run while it is held is `orchestrator.store.journal`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Integer,
    Select,
    Text,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    table,
    update,
)

from mesh.pagination import Page
from mesh.resource import tenant_of
from orchestrator.filter import Order, Term
from orchestrator.problem import Problem
from orchestrator.runs import PAGE_BYTES, REDRIVABLE, NewEvent, Run, RunLease, Source, rank_of
from orchestrator.store.conditions import after_cursor, condition_of, cursor_of, order_of
from orchestrator.store.journal import _LIVE, JournalStore, _events, _named, _of, _Payload, _run, _runs, _text

__all__ = ["RunStore"]

_queues = table("queues", column("agent", Text), column("paused", Boolean), column("max_concurrency", Integer))

# States stand in the text of these statements, not in parameters, or SQLite could not use the indexes made for them.
_IS_QUEUED = _runs.c.state == literal_column("'QUEUED'")
_IS_RUNNING = _runs.c.state == literal_column("'RUNNING'")
_IS_DEAD = _runs.c.state == literal_column("'DEAD_LETTERED'")

_TAKE = (
    update(_runs)
    .where(_runs.c.name == bindparam("the_run"), _runs.c.epoch == bindparam("the_epoch"), _LIVE)
    .values(
        owner=bindparam("the_owner"),
        epoch=_runs.c.epoch + 1,
        lease_expires=bindparam("the_end"),
        state="RUNNING",
        start_time=func.coalesce(_runs.c.start_time, bindparam("the_time", type_=Text)),
        update_time=bindparam("the_time", type_=Text),
        sequence=_runs.c.sequence + 1,
        crashes=bindparam("the_crashes"),
        crashed_steps=_runs.c.steps,
    )
    .returning(_runs)
)
_LEFT = (
    select(_runs)
    .where(
        _IS_RUNNING,
        or_(_runs.c.lease_expires.is_(None), _runs.c.lease_expires < bindparam("the_time")),
        _runs.c.name.not_in(bindparam("held", expanding=True)),
    )
    .order_by(_runs.c.rank)
    .limit(bindparam("room", type_=Integer))
)
_WAITING = (
    select(_runs)
    .where(
        _IS_QUEUED,
        _runs.c.agent.not_in(select(_queues.c.agent).where(_queues.c.paused)),
        _runs.c.agent.not_in(bindparam("closed", expanding=True)),
    )
    .order_by(_runs.c.rank)
    .limit(bindparam("room", type_=Integer))
)
_LIMITED = select(_queues.c.agent, _queues.c.max_concurrency).where(_queues.c.max_concurrency > 0)
_AT_WORK = (
    select(_runs.c.agent, func.count().label("runs"))
    .where(_IS_RUNNING, _runs.c.agent.in_(bindparam("agents", expanding=True)))
    .group_by(_runs.c.agent)
)


_BY_NAME = Order()
_BUFFERED = 16


class RunStore(JournalStore):
    """Statements on a connection; each method runs inside the caller's transaction."""

    def claim(
        self,
        connection: Connection,
        owner: str,
        now: datetime,
        until: datetime,
        limit: int,
        but: Collection[str] = (),
        max_claims: int = 10,
        buried: Callable[[Run], None] = lambda _: None,
    ) -> list[RunLease]:
        """Take up to so many runs that nobody holds: first those that were begun, then by priority and age.

        A run whose holders fell silent so often in a row without committing a step is given up instead, and `buried`
        told. Limits of agents hold over all owners.
        """
        given = {"the_time": now.isoformat(), "held": list(but), "room": limit}
        leases = []
        for row in connection.execute(_locked(connection, _LEFT), given).all():
            silent = row.lease_expires is not None  # one that was handed back has none
            crashes = (row.crashes if row.steps == row.crashed_steps else 0) + silent
            if crashes >= max_claims:
                self._bury(connection, row.name, row.epoch, crashes, now)
                ended = self.get(connection, row.name)
                if ended is not None:
                    buried(ended)
            else:
                leases += self._take(connection, row.name, row.epoch, owner, until, now, crashes)
        return leases + self._claim_waiting(connection, owner, now, until, limit - len(leases))

    def _claim_waiting(
        self, connection: Connection, owner: str, now: datetime, until: datetime, room: int
    ) -> list[RunLease]:
        """Take runs that wait, unless their agent is paused or at its limit."""
        leases: list[RunLease] = []
        if room <= 0:
            return leases
        places = self._places(connection)
        while len(leases) < room:
            closed = [agent for agent, free in places.items() if free <= 0]
            asked = room - len(leases)
            rows = connection.execute(_locked(connection, _WAITING), {"closed": closed, "room": asked}).all()
            for row in rows:
                if places.get(row.agent, 1) > 0:
                    taken = self._take(connection, row.name, row.epoch, owner, until, now, 0)
                    leases += taken
                    if row.agent in places:
                        places[row.agent] -= len(taken)
            if len(rows) < asked or not any(places.get(row.agent, 1) <= 0 for row in rows):
                break  # whatever else waits has been seen, or everything that was seen was taken
        return leases

    @staticmethod
    def _places(connection: Connection) -> dict[str, int]:
        """How many more runs each limited agent may have at work.

        On PostgreSQL an agent is counted by one transaction at a time; who does not get it takes it for full.
        """
        limits = {row.agent: row.max_concurrency for row in connection.execute(_LIMITED)}
        if not limits:
            return {}
        locked = {row.agent for row in connection.execute(_locked(connection, _LIMITED))}
        at_work = {row.agent: int(row.runs) for row in connection.execute(_AT_WORK, {"agents": list(limits)})}
        return {agent: most - at_work.get(agent, 0) if agent in locked else 0 for agent, most in limits.items()}

    def _take(
        self, connection: Connection, name: str, epoch: int, owner: str, until: datetime, now: datetime, crashes: int
    ) -> list[RunLease]:
        given = {
            "the_run": name,
            "the_epoch": epoch,
            "the_owner": owner,
            "the_end": until.isoformat(),
            "the_time": now.isoformat(),
            "the_crashes": crashes,
        }
        held = connection.execute(_TAKE, given).one_or_none()
        if held is None:
            return []
        started = NewEvent("RUN_STARTED", attempt=held.epoch)
        self._journal(connection, name, held.sequence - 1, [started], now.isoformat())
        return [RunLease(_run(held), owner, held.epoch)]

    def _bury(self, connection: Connection, name: str, epoch: int, crashes: int, now: datetime) -> None:
        """End a run that nobody survives."""
        detail = (
            f"{crashes} orchestrators in a row fell silent while they worked on the step that follows the last "
            "committed one; when the reason is found, redrive the run"
        )
        problem = Problem.of_kind("runtime", 500, "Orchestrators die of this run", detail, "", "RUN_POISONOUS")
        values = {
            "state": "DEAD_LETTERED", "problem": _text(problem), "end_time": now.isoformat(), "owner": None,
            "lease_expires": None,
        }  # fmt: skip
        guard = (*_named(name), _IS_RUNNING, _runs.c.epoch == epoch)
        self._move(connection, name, guard, NewEvent("RUN_DEAD_LETTERED", problem=problem), now, values)

    def redrive(self, connection: Connection, name: str, principal: str, undone_from: int, now: datetime) -> Run | None:
        """Queue a run that has failed again; None where it has not, or no longer.

        Args:
            connection: of the transaction.
            name: the run.
            principal: who asks.
            undone_from: failures journalled from this sequence on count no more; 0 for none.
            now: UTC.
        """
        priority = select(_runs.c.priority).where(*_named(name)).scalar_subquery()
        values = {
            "state": "QUEUED", "problem": None, "output": None, "end_time": None, "cancel_requested": False,
            "crashes": 0, "wake_time": None, "attempt": _runs.c.attempt + 1,
            "rank": literal(rank_of(now, 0), BigInteger) - (rank_of(now, 0) - rank_of(now, 1)) * priority,
        }  # fmt: skip
        event = NewEvent("RUN_REDRIVEN", value={"principal": principal, "undone_from": undone_from})
        moved = self._move(connection, name, (*_named(name), _runs.c.state.in_(REDRIVABLE)), event, now, values)
        return self.get(connection, name) if moved else None

    def failures(self, connection: Connection, name: str) -> list[tuple[int, str, Problem]]:
        """Sequence, step and problem of every step that failed, newest first."""
        statement = select(_events).where(_events.c.run == name, _events.c.kind == "STEP_FAILED")
        found = connection.execute(statement.order_by(_events.c.sequence.desc()))
        decoded = ((row, msgspec.json.decode(row.payload, type=_Payload).problem) for row in found)
        return [(row.sequence, row.step, problem) for row, problem in decoded if problem is not None]

    def fork(
        self, connection: Connection, run: Run, source: Source, principal: str, request_id: str, digest: str
    ) -> None:
        """Keep a new run that begins with a copy of another one's events."""
        copied = _events.c.run == source.run, _events.c.sequence <= source.sequence
        own = [name for name in _events.c.keys() if name != "run"]  # noqa: SIM118 -- no mapping
        rows = select(literal(run.name, Text), *(_events.c[name] for name in own)).where(*copied)
        connection.execute(insert(_events).from_select(["run", *own], rows))
        self._insert(connection, run, request_id, digest)
        value = {"principal": principal, "run": source.run, "sequence": source.sequence}
        event = NewEvent("RUN_FORKED", value=value)
        self._journal(connection, run.name, source.sequence, [event], run.create_time.isoformat())

    def page(
        self, connection: Connection, agent: str, page: Page, term: Term | None = None, order: Order = _BY_NAME
    ) -> tuple[list[Run], list[str]]:
        """One run more than the page holds, of those that the filter lets through; and the cursor of each.

        A page of large runs holds fewer: as many as `fitting` says.
        """
        statement = select(_runs).where(*_of(agent))
        if page.cursor is not None:
            statement = statement.where(after_cursor(order, page.cursor))
        if term is not None:
            statement = statement.where(condition_of(term, connection.dialect.name))
        statement = statement.order_by(*order_of(order)).limit(page.limit + 1)
        runs: list[Run] = []
        cursors: list[str] = []
        with connection.execute(statement.execution_options(stream_results=True, max_row_buffer=_BUFFERED)) as result:
            while (len(runs) < 2 or sum(run.size for run in runs) <= PAGE_BYTES) and (
                rows := result.fetchmany(_BUFFERED)
            ):
                runs += [_run(row) for row in rows]
                cursors += [cursor_of(order, row) for row in rows]
        return runs, cursors

    def is_queue_full(self, connection: Connection, agent: str, most: int, most_of_tenant: int) -> str:
        """Whose limit of waiting runs is reached: the agent's or tenant's name, empty for none; 0 is no limit."""
        tenant = tenant_of(agent)
        for owner, limit, which in (
            (agent, most, (*_of(agent), _IS_QUEUED)),
            (f"tenants/{tenant}", most_of_tenant, (_runs.c.tenant == tenant, _IS_QUEUED)),
        ):
            last: Select[Any] = select(literal_column("1")).where(*which).limit(1).offset(limit - 1)
            if limit and connection.execute(last).one_or_none() is not None:
                return owner
        return ""

    def set_queue(self, connection: Connection, agent: str, *, paused: bool, max_concurrency: int) -> None:
        """Note how an agent's runs may be claimed."""
        connection.execute(delete(_queues).where(_queues.c.agent == agent))
        if paused or max_concurrency:
            values = {"agent": agent, "paused": paused, "max_concurrency": max_concurrency}
            connection.execute(insert(_queues).values(values))

    def has_live(self, connection: Connection, schedule: str) -> bool:
        """Whether a run that the schedule made has not ended."""
        of_it: Select[Any] = select(literal_column("1")).where(_runs.c.schedule == schedule)
        return connection.execute(of_it.where(_runs.c.end_time.is_(None)).limit(1)).one_or_none() is not None

    def waiting(self, connection: Connection) -> Sequence[tuple[str, int, int]]:
        """Of every agent whose runs wait: its name, how many, and the lowest rank."""
        statement = select(_runs.c.agent, func.count(), func.min(_runs.c.rank)).where(_IS_QUEUED)
        return [tuple(row) for row in connection.execute(statement.group_by(_runs.c.agent))]

    def dead_letters(self, connection: Connection) -> Sequence[tuple[str, int]]:
        """Of every agent with runs that were given up: its name, and how many."""
        statement = select(_runs.c.agent, func.count()).where(_IS_DEAD).group_by(_runs.c.agent)
        return [tuple(row) for row in connection.execute(statement)]


def _locked(connection: Connection, statement: Select[Any]) -> Select[Any]:
    """The statement, skipping rows that others are just taking; on SQLite there is one writer anyway."""
    return statement.with_for_update(skip_locked=True) if connection.dialect.name == "postgresql" else statement
