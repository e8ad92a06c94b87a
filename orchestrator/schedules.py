"""Schedules: what is kept of them, what they may say, and what to do with due times that lie in the past.

Starting the runs is `orchestrator.scheduler`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from mesh.catalogue import Catalogue
from mesh.db import Database, Transaction
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from mesh.errors import InvalidError
from mesh.identity import Requester
from mesh.resource import tenant_of
from orchestrator.agents import Agent
from orchestrator.errors import ScheduleForbiddenError
from orchestrator.recurrence import Recurrence, check_recurrence, jitter_of
from orchestrator.values import fault_of

__all__ = ["ON_TIME", "May", "Plan", "Schedule", "ScheduleRows", "Schedules", "Standing", "plan", "recurrence_of"]

ON_TIME = timedelta(seconds=60)
"""What is no later than that was not missed."""

_COUNTED = timedelta(days=31)
_RUN = "orchestrator.runs.create"


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule's own fields, named as in the contract; lengths of time are seconds."""

    agent: str
    requester: Requester
    cron: str = ""
    interval: int = 0
    timezone: str = "UTC"
    input: Any = None
    input_time_field: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    jitter: int = 0
    overlap_policy: str = "SKIP"
    catch_up_policy: str = "LAST"
    catch_up_window: int = 3600
    paused: bool = False
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a schedule stands; changes with its runs, not with the resource.

    Attributes:
        generation: the entry's revision that it follows.
        next_time: the due time to deal with next; None while there is none.
        fire_time: when that is to be done, jitter included.
        last_time: the due time dealt with last.
        buffered_time: a due time whose run waits for the end of the one before.
        reason: why it could start no run; empty while it can. `message` says more, `since_time` since when.
    """

    generation: int
    next_time: datetime | None = None
    fire_time: datetime | None = None
    last_time: datetime | None = None
    buffered_time: datetime | None = None
    last_run: str = ""
    started: int = 0
    skipped: int = 0
    missed: int = 0
    blocked: int = 0
    reason: str = ""
    message: str = ""
    since_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: the due time to run for, if any; the one to look at next; how many were missed for good."""

    due: datetime | None
    following: datetime | None
    missed: int


class ScheduleRows(Protocol):
    """The rows of standings; `orchestrator.store.schedules` says what each method does."""

    def get(self, connection: Transaction, name: str) -> Standing | None:
        """One standing."""

    def all(self, connection: Transaction, names: Sequence[str]) -> dict[str, Standing]:
        """Standings by schedule."""

    def put(self, connection: Transaction, name: str, standing: Standing) -> None:
        """Keep a standing, whatever was before."""

    def change(self, connection: Transaction, name: str, old: Standing, new: Standing) -> bool:
        """Keep a standing where the old one still holds; returns whether it did."""

    def remove(self, connection: Transaction, name: str) -> None:
        """Forget a standing."""

    def due(self, connection: Transaction, now: datetime, limit: int) -> list[str]:
        """Schedules that have something to do."""

    def first_fire(self, connection: Transaction) -> datetime | None:
        """When the next schedule has something to do."""


class May(Protocol):
    """Asks the policy that holds now."""

    def __call__(self, requester: Requester, permission: str, resource: str) -> bool:
        """Whether the requester may do that on the resource.

        Raises:
            TiationError: there is no policy to ask at the moment.
        """


def recurrence_of(entry: Entry[Schedule]) -> Recurrence:
    """The due times of a schedule."""
    body = entry.body
    anchor = (body.start_time or entry.create_time).replace(microsecond=0)
    bounds = {"first": body.start_time} if body.start_time is not None else {}
    return Recurrence(body.cron, body.interval, body.timezone, anchor, last=body.end_time, **bounds)


def plan(recurrence: Recurrence, body: Schedule, name: str, next_time: datetime, now: datetime) -> Plan:
    """What to do at a schedule's fire time or later.

    Args:
        recurrence: its due times.
        body: its policy.
        name: its name.
        next_time: the oldest due time that was not dealt with.
        now: UTC.
    """

    def fires(due: datetime) -> datetime:
        return due + jitter_of(name, due, body.jitter)

    if fires(next_time) > now - ON_TIME:
        return Plan(next_time, recurrence.after(next_time), 0)
    ready = [due for due in recurrence.between(max(next_time, now - _COUNTED), now) if fires(due) <= now]
    late = [due for due in ready if fires(due) <= now - ON_TIME]
    within = [due for due in late if due >= now - timedelta(seconds=body.catch_up_window)]
    if body.catch_up_policy == "ALL" and within:
        return Plan(within[0], recurrence.after(within[0]), len(late) - len(within))
    if body.catch_up_policy == "LAST" and within and len(late) == len(ready):
        return Plan(within[-1], recurrence.after(within[-1]), len(late) - 1)
    return Plan(None, recurrence.after(late[-1] if late else now - ON_TIME), len(late) or 1)


class Schedules(Catalogue):
    """Keeps schedules.

    Args:
        database: the service's own database.
        rows: statements for entries.
        standings: statements for where schedules stand.
        may: asks the policy.
        now: the wall clock, UTC.
    """

    def __init__(
        self,
        database: Database,
        rows: EntryStore,
        standings: ScheduleRows,
        may: May,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(database, rows, now)
        self._standings = standings
        self._may = may

    async def standing(self, names: Sequence[str]) -> dict[str, Standing]:
        """Where schedules stand, by name."""
        return await self._database.read(lambda transaction: self._standings.all(transaction, names))

    def check(self, _: Transaction, entry: Entry[Any]) -> None:
        """Refuse a schedule that could never start a run."""
        body: Schedule = entry.body
        if tenant_of(body.agent) != tenant_of(entry.name):
            raise InvalidError("schedule.agent", f"must be one of tenants/{tenant_of(entry.name)}")
        if body.input_time_field and not isinstance(body.input, (dict, type(None))):
            raise InvalidError("schedule.input", "must be an object, as `input_time_field` is a field of it")
        fault = fault_of(body.input)
        if fault:
            raise InvalidError("schedule.input", fault)
        check_recurrence(recurrence_of(entry))

    async def admit(self, body: Schedule) -> None:
        """Refuse what a schedule is to run, where its requester may not or there is no such agent.

        Raises:
            ScheduleForbiddenError: as `allow`.
            NotFoundError: there is no such agent.
        """
        self.allow(body)
        await self.get(Agent, body.agent)

    def allow(self, body: Schedule) -> None:
        """Refuse what the requester may not do.

        Raises:
            ScheduleForbiddenError: they may not run the agent.
            TiationError: there is no policy to ask.
        """
        if not self._may(body.requester, _RUN, body.agent):
            raise ScheduleForbiddenError(
                f"{body.requester.subject} lacks {_RUN} on {body.agent}; bind a role that has it, or let somebody who "
                "may run the agent update the schedule",
                permission=_RUN,
                resource=body.agent,
                subject=body.requester.subject,
            )

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Find the next due time; one that is still due as it was is kept, were it overdue."""
        old = self._standings.get(transaction, entry.name) or Standing(entry.revision)
        recurrence = recurrence_of(entry)
        following = None if entry.body.paused else recurrence.after(self._now())
        if following is not None and old.next_time is not None:
            as_before = recurrence.after(old.next_time - timedelta(microseconds=1)) == old.next_time
            following = min(old.next_time, following) if as_before else following
        standing = Standing(
            generation=entry.revision,
            next_time=following,
            fire_time=following and following + jitter_of(entry.name, following, entry.body.jitter),
            last_time=old.last_time,
            buffered_time=None if entry.body.paused else old.buffered_time,
            last_run=old.last_run,
            started=old.started,
            skipped=old.skipped,
            missed=old.missed,
            blocked=old.blocked,
        )
        self._standings.put(transaction, entry.name, standing)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Where it stands goes with it."""
        self._standings.remove(transaction, entry.name)
