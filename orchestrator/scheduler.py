"""The scheduler: starts the runs of schedules when they are due, once for each due time.

Moving a schedule on and creating its run is one transaction over the standing that was read. Of several orchestrators
one succeeds, and one that is killed in between has done neither.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from mesh.catalogue import NotFoundError
from mesh.db import Database, Transaction
from mesh.entries import Creation, Entry
from mesh.errors import InvalidError, TiationError
from mesh.etag import etag_of
from mesh.tracing import TraceContext
from orchestrator.admission import Admission, Wanted
from orchestrator.errors import ScheduleForbiddenError
from orchestrator.ports import RunRows
from orchestrator.recurrence import jitter_of
from orchestrator.runs import Run
from orchestrator.schedules import Plan, Schedule, ScheduleRows, Schedules, Standing, plan, recurrence_of
from orchestrator.traces import trace_begun, trace_of_call

__all__ = ["Scheduler"]

_LOOK_S = 1.0
_LOOK_ALONE_S = 5.0
"""Where no other process may have changed a schedule: whoever does so here wakes the scheduler."""
_AT_ONCE = 100
_MOST_BACKFILLED = 1000
_WRITTEN_TOGETHER = 50
_SAID_AGAIN = timedelta(minutes=1)
_MOST_SAID = 1000


class Scheduler:
    """Starts runs.

    Args:
        database: the service's own database.
        schedules: the schedules.
        standings: statements for where they stand.
        runs: statements for runs.
        admission: lets runs in.
        wake: told when there are new runs.
        now: the wall clock, UTC.
        begin: begins the trace of a run that nobody's call has made.
    """

    def __init__(
        self,
        database: Database,
        schedules: Schedules,
        standings: ScheduleRows,
        runs: RunRows,
        admission: Admission,
        wake: Callable[[], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        begin: Callable[[], TraceContext | None] = lambda: None,
    ) -> None:
        self._database = database
        self._schedules = schedules
        self._standings = standings
        self._runs = runs
        self._admission = admission
        self._wake_executor = wake
        self._now = now
        self._begin = begin
        self._wake = asyncio.Event()
        self._said: dict[tuple[str, str], datetime] = {}
        self._log = structlog.get_logger("orchestrator.scheduler")

    def wake(self) -> None:
        """Look again: a schedule has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Deal with schedules whenever they are due, for ever."""
        while True:
            self._wake.clear()
            try:
                pause_s = await self.look()
            except Exception as error:  # noqa: BLE001 -- whatever ails the database now, schedules go on when it is over
                self._log.warning("schedules not looked at", error=str(error))
                pause_s = _LOOK_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def look(self) -> float:
        """Deal with every schedule that is due now; returns seconds until it is time to look again."""
        now = self._now()

        def work(transaction: Transaction) -> tuple[list[str], datetime | None]:
            return self._standings.due(transaction, now, _AT_ONCE), self._standings.first_fire(transaction)

        names, first = await self._database.read(work)
        moved = [await self._guarded(name, now) for name in names]
        if any(moved):
            return 0.0  # there may be more, and each that was late may have more to make up for
        longest_s = _LOOK_S if names or self._database.is_shared else _LOOK_ALONE_S
        if first is None or (names and first <= now):  # what is due and does not move has its reason, and keeps it
            return longest_s
        return min(longest_s, max(0.02, (first - now).total_seconds()))

    async def _guarded(self, name: str, now: datetime) -> bool:
        """Deal with one schedule; what ails it is no other's matter."""
        try:
            return await self._deal_with(name, now)
        except NotFoundError:
            return False  # it was deleted a moment ago
        except TiationError as error:
            if self._is_news(name, error.reason):
                self._log.warning("schedule waits", schedule=name, reason=error.reason, error=error.message)
        except Exception as error:  # noqa: BLE001 -- the others go on
            if self._is_news(name, repr(error)):
                self._log.exception("schedule not dealt with", schedule=name, exc_info=error)
        return False

    def _is_news(self, name: str, what: str) -> bool:
        """Whether this has not been said of a schedule for a minute."""
        now = self._now()
        said = self._said.get((name, what))
        if said is not None and now - said < _SAID_AGAIN:
            return False
        if len(self._said) >= _MOST_SAID:
            self._said.clear()
        self._said[name, what] = now
        return True

    async def _deal_with(self, name: str, now: datetime) -> bool:
        """Take one step of one schedule; returns whether there was one to take."""
        entry = await self._schedules.get(Schedule, name)
        standing = (await self._schedules.standing([name])).get(name)
        if standing is None or standing.generation != entry.revision:
            return False
        forbidden: TiationError | None = None
        try:
            self._schedules.allow(entry.body)
        except ScheduleForbiddenError as error:
            forbidden = error
        if standing.fire_time is not None and standing.next_time is not None and standing.fire_time <= now:
            todo = await asyncio.to_thread(
                plan, recurrence_of(entry), entry.body, name, standing.next_time, now
            )  # a cron of every minute that was missed for a month takes a while
            step = _moved_on(entry, standing, todo)
        elif standing.buffered_time is not None:
            todo = Plan(standing.buffered_time, None, 0)
            step = replace(standing, buffered_time=None)
        else:
            return False
        changed = await self._database.write(
            lambda transaction: self._step(transaction, entry, standing, step, todo.due, forbidden)
        )
        if changed and todo.due is not None:
            self._wake_executor()
        return changed

    def _step(
        self,
        transaction: Transaction,
        entry: Entry[Schedule],
        old: Standing,
        new: Standing,
        due: datetime | None,
        forbidden: TiationError | None,
    ) -> bool:
        """Keep the step and create its run, both or neither; returns whether it was taken."""
        policy = entry.body.overlap_policy
        overlaps = due is not None and policy != "ALLOW" and self._runs.has_live(transaction, entry.name)
        if overlaps and new.next_time == old.next_time:
            return False  # what waits goes on waiting
        if not self._standings.change(transaction, entry.name, old, new):
            return False  # another orchestrator was faster
        if due is None:
            return True
        if overlaps and policy == "BUFFER_ONE" and old.buffered_time is None:
            reached = replace(new, buffered_time=due)
        elif overlaps:
            reached = replace(new, skipped=new.skipped + 1)
        else:
            reached = self._started(transaction, entry, new, due, forbidden)
        return self._standings.change(transaction, entry.name, new, reached)

    def _started(
        self,
        transaction: Transaction,
        entry: Entry[Schedule],
        standing: Standing,
        due: datetime,
        forbidden: TiationError | None,
    ) -> Standing:
        """Where a schedule stands with the run of a due time created, or with why it was not."""
        try:
            if forbidden is not None:
                raise forbidden
            run, is_new = self._admission.admit(
                transaction, replace(_wanted(entry, due), trace=trace_begun(self._begin())), _creation(entry, due)
            )
        except TiationError as error:
            since = standing.since_time if standing.reason == error.reason else self._now()
            return replace(
                standing, blocked=standing.blocked + 1, reason=error.reason, message=error.message, since_time=since
            )
        return replace(
            standing, started=standing.started + is_new, last_run=run.name, reason="", message="", since_time=None
        )

    async def trigger(self, name: str, request_id: str) -> Run:
        """Start a run now, whatever else the schedule says.

        Raises:
            NotFoundError: there is no such schedule or agent.
            ScheduleForbiddenError: its requester may not run the agent.
            TiationError: as `Admission.admit`.
        """
        entry = await self._schedules.get(Schedule, name)
        self._schedules.allow(entry.body)
        wanted = replace(_wanted(entry, self._now()), run_id="", trace=trace_of_call())
        creation = Creation(request_id, etag_of("trigger", entry.uid))

        def work(transaction: Transaction) -> Run:
            run, is_new = self._admission.admit(transaction, wanted, creation)
            standing = self._standings.get(transaction, name)
            if standing is not None and is_new:
                new = replace(standing, started=standing.started + 1, last_run=run.name)
                self._standings.change(transaction, name, standing, new)
            return run

        run = await self._database.write(work)
        self._wake_executor()
        return run

    async def backfill(self, name: str, first: datetime, last: datetime) -> tuple[list[str], int]:
        """Start a run for every due time of a range; returns the runs, and how many due times had theirs already.

        Raises:
            InvalidError: the range lies in the future, ends before it begins, or holds too many due times.
            NotFoundError, ScheduleForbiddenError, TiationError: as for `trigger`.
        """
        if last < first:
            raise InvalidError("end_time", "lies before `start_time`")
        if last > self._now():
            raise InvalidError("end_time", "lies in the future; what is due then starts by itself")
        entry = await self._schedules.get(Schedule, name)
        self._schedules.allow(entry.body)
        dues = await asyncio.to_thread(_dues, entry, first, last)
        started: list[str] = []
        trace = trace_of_call()
        for at in range(0, len(dues), _WRITTEN_TOGETHER):
            some = dues[at : at + _WRITTEN_TOGETHER]
            started += await self._database.write(
                lambda transaction, some=some: self._backfilled(transaction, entry, some, trace)  # type: ignore[misc]
            )
        self._wake_executor()
        return started, len(dues) - len(started)

    def _backfilled(
        self, transaction: Transaction, entry: Entry[Schedule], dues: Sequence[datetime], trace: str
    ) -> list[str]:
        made = [
            self._admission.admit(transaction, replace(_wanted(entry, due), trace=trace), _creation(entry, due))
            for due in dues
        ]
        names = [run.name for run, is_new in made if is_new]
        standing = self._standings.get(transaction, entry.name)
        if standing is not None and names:
            new = replace(standing, started=standing.started + len(names), last_run=names[-1])
            self._standings.change(transaction, entry.name, standing, new)
        return names


def _moved_on(entry: Entry[Schedule], standing: Standing, todo: Plan) -> Standing:
    fires = todo.following and todo.following + jitter_of(entry.name, todo.following, entry.body.jitter)
    return replace(
        standing,
        next_time=todo.following,
        fire_time=fires,
        last_time=todo.due or standing.last_time,
        missed=standing.missed + todo.missed,
    )


def _wanted(entry: Entry[Schedule], due: datetime) -> Wanted:
    """The run of a due time; its name follows from the schedule and the time, so that there is one at most."""
    body, at = entry.body, due.strftime("%Y-%m-%dT%H:%M:%SZ")
    given: Any = body.input
    if body.input_time_field:
        given = {**(body.input or {}), body.input_time_field: at}
    schedule_id = entry.name.rsplit("/", 1)[-1]
    mark = hashlib.sha256(entry.uid.encode()).hexdigest()[:8]
    return Wanted(
        agent=body.agent,
        run_id=f"{schedule_id[:32].rstrip('-')}-{mark}-{due:%Y%m%d-%H%M%S}",
        input=given,
        requester=body.requester,
        labels={**entry.labels, "schedule": schedule_id, "scheduled-time": at},
        priority=body.priority,
        schedule=entry.name,
        scheduled_time=due,
    )


def _creation(entry: Entry[Schedule], due: datetime) -> Creation:
    return Creation("", etag_of("schedule", entry.uid, due.isoformat()))


def _dues(entry: Entry[Schedule], first: datetime, last: datetime) -> list[datetime]:
    dues: list[datetime] = []
    for due in recurrence_of(entry).between(first, last):
        if len(dues) >= _MOST_BACKFILLED:
            raise InvalidError(
                "end_time", f"more than {_MOST_BACKFILLED} due times lie between; choose a shorter range"
            )
        dues.append(due)
    return dues
