"""ScheduleService."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from google.protobuf import empty_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from tiation.orchestrator.v1 import run_pb2, schedule_pb2_grpc
from tiation.orchestrator.v1 import schedule_pb2 as pb

from mesh.call import Context
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.identity import Requester, current_caller
from mesh.json_value import json_to_value, value_to_json
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.shelf import Shelf, timestamp
from orchestrator.scheduler import Scheduler
from orchestrator.schedules import Schedule, Schedules, Standing
from orchestrator.servicers.runs import shown

__all__ = ["ScheduleServicer"]

_OWN = (
    "agent", "cron", "interval", "timezone", "input", "input_time_field", "start_time", "end_time", "jitter",
    "overlap_policy", "catch_up_policy", "catch_up_window", "paused", "priority",
)  # fmt: skip
_CHANGEABLE = (*_OWN, "labels")
_OF_REQUESTER = frozenset({"agent", "input"})
"""Who changes one of these answers for what the schedule does."""


class ScheduleServicer(schedule_pb2_grpc.ScheduleServiceServicer):
    """Keeps schedules and starts their runs by hand.

    Args:
        schedules: the core.
        scheduler: starts runs.
        pages: makes and checks page tokens.
    """

    def __init__(self, schedules: Schedules, scheduler: Scheduler, pages: Pages) -> None:
        self._shelf: Shelf[Schedule, pb.Schedule] = Shelf(schedules, pages, Schedule, "schedules", _show, _read)
        self._schedules = schedules
        self._scheduler = scheduler

    async def GetSchedule(self, request: pb.GetScheduleRequest, _: Context) -> pb.Schedule:
        """One schedule."""
        return await self._message(await self._schedules.get(Schedule, request.name))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, _: Context) -> pb.ListSchedulesResponse:
        """A page of schedules."""
        found, token = await self._shelf.list(request.parent, request)
        standings = await self._schedules.standing([schedule.name for schedule in found])
        for schedule in found:
            _stand(schedule, standings.get(schedule.name))
        return pb.ListSchedulesResponse(schedules=found, next_page_token=token)

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, _: Context) -> pb.Schedule:
        """A new schedule."""
        body = _read(request.schedule)
        await self._schedules.admit(body)
        name = self._shelf.name(request.parent, request.schedule_id)
        made = await self._shelf.create(name, request.schedule, request, body, validate_only=request.validate_only)
        self._scheduler.wake()
        return await self._message(made)

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, _: Context) -> pb.Schedule:
        """A changed schedule."""
        sent = request.schedule
        fields, read = masked_fields(sent, request.update_mask, _CHANGEABLE), _read(sent)
        own = {field: getattr(read, field) for field in fields if field != "labels"}
        if fields & _OF_REQUESTER:
            own["requester"] = read.requester
            current = await self._schedules.get(Schedule, sent.name)
            await self._schedules.admit(msgspec.structs.replace(current.body, **own))

        def change(entry: Entry[Schedule]) -> Entry[Schedule]:
            labels = dict(sent.labels) if "labels" in fields else entry.labels
            return replace(entry, body=msgspec.structs.replace(entry.body, **own), labels=labels)

        changed = await self._schedules.update(
            Schedule, sent.name, sent.etag, change, validate_only=request.validate_only
        )
        self._scheduler.wake()
        return await self._message(changed)

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, _: Context) -> empty_pb2.Empty:
        """One schedule less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, _: Context) -> pb.Schedule:
        """No more runs."""
        return await self._set_paused(request.name, paused=True)

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, _: Context) -> pb.Schedule:
        """Runs again, from now on."""
        return await self._set_paused(request.name, paused=False)

    async def TriggerSchedule(self, request: pb.TriggerScheduleRequest, _: Context) -> run_pb2.Run:
        """A run now."""
        return await shown(await self._scheduler.trigger(request.name, request.request_id))

    async def BackfillSchedule(self, request: pb.BackfillScheduleRequest, _: Context) -> pb.BackfillScheduleResponse:
        """The runs of a range of time."""
        first, last = _moment("start_time", request.start_time), _moment("end_time", request.end_time)
        runs, existing = await self._scheduler.backfill(request.name, first, last)
        return pb.BackfillScheduleResponse(runs=runs, existing_count=existing)

    async def _set_paused(self, name: str, *, paused: bool) -> pb.Schedule:
        def change(entry: Entry[Schedule]) -> Entry[Schedule]:
            return replace(entry, body=msgspec.structs.replace(entry.body, paused=paused))

        changed = await self._schedules.update(Schedule, name, "", change)
        self._scheduler.wake()
        return await self._message(changed)

    async def _message(self, entry: Entry[Schedule]) -> pb.Schedule:
        message = self._shelf.message(entry)
        _stand(message, (await self._schedules.standing([entry.name])).get(entry.name))
        return message


def _show(body: Schedule) -> pb.Schedule:
    message = pb.Schedule(
        agent=body.agent,
        cron=body.cron,
        timezone=body.timezone,
        input_time_field=body.input_time_field,
        overlap_policy=body.overlap_policy,
        catch_up_policy=body.catch_up_policy,
        paused=body.paused,
        priority=body.priority,
        requester=body.requester.subject,
    )
    for field in ("interval", "jitter"):
        if getattr(body, field):
            getattr(message, field).FromSeconds(getattr(body, field))
    message.catch_up_window.FromSeconds(body.catch_up_window)
    message.input.CopyFrom(json_to_value(body.input, "schedule.input"))
    if body.start_time is not None:
        message.start_time.CopyFrom(timestamp(body.start_time))
    if body.end_time is not None:
        message.end_time.CopyFrom(timestamp(body.end_time))
    return message


def _stand(message: pb.Schedule, standing: Standing | None) -> None:
    """Say where a schedule stands; one that is only being validated stands nowhere."""
    message.state = pb.Schedule.PAUSED if message.paused else pb.Schedule.ACTIVE
    if standing is None:
        return
    if not message.paused and standing.next_time is None and standing.buffered_time is None:
        message.state = pb.Schedule.COMPLETED
    elif not message.paused and standing.reason:
        message.state = pb.Schedule.BLOCKED
    message.last_run = standing.last_run
    message.started_count, message.skipped_count = standing.started, standing.skipped
    message.missed_count, message.blocked_count = standing.missed, standing.blocked
    for field, moment in (
        ("next_run_time", standing.next_time),
        ("last_run_time", standing.last_time),
        ("buffered_time", standing.buffered_time),
    ):
        if moment is not None:
            getattr(message, field).CopyFrom(timestamp(moment))
    if standing.reason:
        condition = pb.Schedule.Condition(reason=standing.reason, message=standing.message)
        if standing.since_time is not None:
            condition.since_time.CopyFrom(timestamp(standing.since_time))
        message.condition.CopyFrom(condition)


def _read(message: pb.Schedule) -> Schedule:
    caller = current_caller()
    overlap = pb.Schedule.OverlapPolicy.Name(message.overlap_policy or pb.Schedule.SKIP)
    catch_up = pb.Schedule.CatchUpPolicy.Name(message.catch_up_policy or pb.Schedule.LAST)
    return Schedule(
        agent=message.agent,
        requester=Requester(caller.tenant, caller.subject, role=caller.role, uid=caller.uid),
        cron=message.cron.strip(),
        interval=message.interval.seconds,
        timezone=message.timezone or "UTC",
        input=value_to_json(message.input, "schedule.input") if message.HasField("input") else None,
        input_time_field=message.input_time_field,
        start_time=_moment("schedule.start_time", message.start_time) if message.HasField("start_time") else None,
        end_time=_moment("schedule.end_time", message.end_time) if message.HasField("end_time") else None,
        jitter=message.jitter.seconds,
        overlap_policy=overlap,
        catch_up_policy=catch_up,
        catch_up_window=message.catch_up_window.seconds if message.HasField("catch_up_window") else 3600,
        paused=message.paused,
        priority=message.priority if message.HasField("priority") else None,
    )


def _moment(field: str, stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidError(field, "is no time between the years 1 and 9999") from None
