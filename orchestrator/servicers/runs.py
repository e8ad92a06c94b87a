"""RunService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from google.protobuf.struct_pb2 import Value
from tiation.orchestrator.v1 import run_pb2 as pb
from tiation.orchestrator.v1 import run_pb2_grpc

from mesh.call import Context
from mesh.catalogue import NotFoundError
from mesh.db import Database
from mesh.etag import etag_of
from mesh.identity import Requester, current_caller
from mesh.json_value import json_to_value, value_to_json
from mesh.pagination import Pages
from mesh.shelf import creation_of, timestamp
from mesh.status import status_of
from orchestrator.admission import Admission, Fork, Wanted
from orchestrator.agents import Agent, Agents
from orchestrator.conversion import bytes_of, converted
from orchestrator.errors import InputTooLargeError, ShuttingDownError
from orchestrator.executor import Executor
from orchestrator.filter import parse_filter, parse_order
from orchestrator.notices import Notices
from orchestrator.ports import RunRows
from orchestrator.problem import Problem
from orchestrator.runs import ENDED, Event, Run, fitting
from orchestrator.values import MAX_VALUE_BYTES, MESSAGE_GROWTH

__all__ = ["RunServicer", "shown"]

_EVENTS_AT_ONCE = 100
_SHOWN = frozenset({"RUN_SUCCEEDED", "STEP_WAITING", "INPUT_REQUESTED", "INPUT_RECEIVED", "RUN_WAITING"})
"""The events whose value is for everyone; what a call was given stays in the journal."""
_LOOK_AGAIN_S = 0.5
_STATES = tuple(pb.Run.State.keys())[1:]


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """Starts, shows and cancels runs.

    Args:
        admission: lets runs in.
        agents: knows the agents.
        database: the service's own database.
        rows: statements for runs.
        executor: works on runs.
        notices: says when a journal has grown.
        pages: makes and checks page tokens.
    """

    def __init__(
        self,
        admission: Admission,
        agents: Agents,
        database: Database,
        rows: RunRows,
        executor: Executor,
        notices: Notices,
        pages: Pages,
    ) -> None:
        self._admission = admission
        self._agents = agents
        self._database = database
        self._rows = rows
        self._executor = executor
        self._notices = notices
        self._pages = pages

    async def GetRun(self, request: pb.GetRunRequest, _: Context) -> pb.Run:
        """One run."""
        return await shown(await self._found(request.name))

    async def ListRuns(self, request: pb.ListRunsRequest, _: Context) -> pb.ListRunsResponse:
        """A page of those of an agent's runs that the filter lets through."""
        term, order = parse_filter(request.filter, _STATES), parse_order(request.order_by)
        bound_to = ("Run", request.parent, request.filter, request.order_by)
        page = self._pages.start(bound_to, request.page_size, request.page_token)
        await self._agents.get(Agent, request.parent)
        found, cursors = await self._database.read(
            lambda transaction: self._rows.page(transaction, request.parent, page, term, order)
        )
        page = replace(page, limit=min(page.limit, fitting(found)))
        kept, token = self._pages.cut(bound_to, page, found, cursors)
        return await converted(
            sum(run.size for run in kept),
            lambda: pb.ListRunsResponse(runs=[_message(run) for run in kept], next_page_token=token),
        )

    async def CreateRun(self, request: pb.CreateRunRequest, _: Context) -> pb.Run:
        """A new run; it is durable when the answer goes."""
        sent = request.run
        wanted = Wanted(
            agent=request.parent,
            run_id=request.run_id,
            input=await _given(sent.input, "run.input") if sent.HasField("input") else None,
            requester=_requester(),
            labels=dict(sent.labels),
            priority=sent.priority if sent.HasField("priority") else None,
        )
        made = await self._admission.create(wanted, creation_of(request))
        self._executor.wake()
        return await shown(made)

    async def ForkRun(self, request: pb.ForkRunRequest, _: Context) -> pb.Run:
        """A new run that begins like another one; it is durable when the answer goes."""
        wanted = Fork(
            source=request.name,
            after_sequence=request.after_sequence,
            step=request.step,
            run_id=request.run_id,
            requester=_requester(),
            revision=request.revision,
            labels=dict(request.labels),
            input=await _given(request.input, "input") if request.HasField("input") else None,
            replaces_input=request.HasField("input"),
        )
        made = await self._admission.fork(wanted, creation_of(request))
        self._executor.wake()
        return await shown(made)

    async def RedriveRun(self, request: pb.RedriveRunRequest, _: Context) -> pb.Run:
        """A run that has failed, waiting to be gone on with."""
        principal, now = current_caller().subject, datetime.now(UTC)

        redriven = await self._database.write(
            lambda transaction: self._admission.redrive(transaction, request.name, principal, now)
        )
        self._executor.wake()
        self._notices.tell(request.name)
        return await shown(redriven)

    async def CancelRun(self, request: pb.CancelRunRequest, _: Context) -> pb.Run:
        """Ask a run to end."""
        now = datetime.now(UTC)
        run = await self._database.write(lambda transaction: self._rows.request_cancel(transaction, request.name, now))
        if run is None:
            raise NotFoundError(request.name)
        if run.end_time == now:  # by this call, and nobody was working on it
            self._executor.tell_of_end(run)
        self._executor.cancel(request.name)
        self._notices.tell(request.name)
        return await shown(run)

    async def StreamRunEvents(
        self, request: pb.StreamRunEventsRequest, _: Context
    ) -> AsyncIterator[pb.StreamRunEventsResponse]:
        """A run's events until its end; the last message says so when the service stops before that."""
        seen = request.after_sequence
        with self._notices.listen(request.name) as grown:
            while True:
                grown.clear()
                state, newest, events = await self._tail(request.name, seen)
                for event in events:
                    seen = event.sequence
                    yield pb.StreamRunEventsResponse(event=await converted(event.size, partial(_event, event)))
                if state in ENDED and seen >= newest:
                    return
                if self._notices.closed:
                    yield _broken(seen)
                    return
                if not events:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_AGAIN_S):
                            await grown.wait()

    async def CountLiveRuns(self, request: pb.CountLiveRunsRequest, _: Context) -> pb.CountLiveRunsResponse:
        """How many runs have not ended."""
        found = await self._database.read(lambda transaction: self._rows.live_counts(transaction, request.tenant))
        counts = [pb.LiveRunCount(agent=agent, state=state, count=count) for agent, state, count in found]
        return pb.CountLiveRunsResponse(counts=counts)

    async def _tail(self, name: str, after: int) -> tuple[str, int, list[Event]]:
        tail = await self._database.read(lambda transaction: self._rows.tail(transaction, name, after, _EVENTS_AT_ONCE))
        if tail is None:
            raise NotFoundError(name)
        return tail

    async def _found(self, name: str) -> Run:
        run = await self._database.read(lambda transaction: self._rows.get(transaction, name))
        if run is None:
            raise NotFoundError(name)
        return run


def _requester() -> Requester:
    caller = current_caller()
    return Requester(caller.tenant, caller.subject, role=caller.role, uid=caller.uid)


async def _given(value: Value, field: str) -> Any:  # noqa: ANN401 -- any JSON
    """What a request holds.

    Raises:
        InputTooLargeError: so much that it need not be looked at.
    """
    size = value.ByteSize()
    if size > MESSAGE_GROWTH * MAX_VALUE_BYTES:
        raise InputTooLargeError(f"{field} is {size} bytes, and more than {MAX_VALUE_BYTES} as JSON")
    return await converted(size, partial(value_to_json, value, field))


async def shown(run: Run) -> pb.Run:
    """The message of a run."""
    return await converted(run.size or bytes_of(run.input), partial(_message, run))


def _message(run: Run) -> pb.Run:
    message = pb.Run(
        name=run.name,
        uid=run.uid,
        etag=etag_of(run.uid, run.sequence),
        labels=run.labels,
        state=run.state,
        revision=run.revision,
        requester=run.requester.subject,
        steps=run.steps,
        priority=run.priority,
        attempt=run.attempt,
        schedule=run.schedule,
    )
    if run.source is not None:
        message.source_run, message.source_sequence = run.source.run, run.source.sequence
    if run.scheduled_time is not None:
        message.scheduled_time.CopyFrom(timestamp(run.scheduled_time))
    message.create_time.CopyFrom(timestamp(run.create_time))
    message.update_time.CopyFrom(timestamp(run.update_time))
    if run.start_time is not None:
        message.start_time.CopyFrom(timestamp(run.start_time))
    if run.end_time is not None:
        message.end_time.CopyFrom(timestamp(run.end_time))
    message.input.CopyFrom(json_to_value(run.input, "run.input"))
    if run.state == "SUCCEEDED":
        message.output.CopyFrom(json_to_value(run.output, "run.output"))
    if run.problem is not None:
        message.error.CopyFrom(_problem(run.problem))
    return message


def _event(event: Event) -> pb.RunEvent:
    what = event.what
    message = pb.RunEvent(
        sequence=event.sequence,
        event_time=timestamp(event.time),
        type=what.kind,
        step=what.step,
        attempt=what.attempt,
        duration_ms=what.duration_ms,
        occurrence=what.occurrence,
        scope=what.scope,
    )
    if what.result is not None:
        message.result.CopyFrom(json_to_value(what.result.output, "event.result"))
    elif what.kind in _SHOWN:
        message.result.CopyFrom(json_to_value(what.value, "event.result"))
    elif what.kind in ("RUN_REDRIVEN", "RUN_FORKED"):
        message.principal = what.value["principal"]
    if what.problem is not None:
        message.error.CopyFrom(_problem(what.problem))
    return message


def _problem(problem: Problem) -> pb.Problem:
    return pb.Problem(**msgspec.structs.asdict(problem))


def _broken(seen: int) -> pb.StreamRunEventsResponse:
    message = f"the orchestrator stops; go on with after_sequence={seen}"
    error = ShuttingDownError(message, retry_after_s=1.0, sequence=seen)
    return pb.StreamRunEventsResponse(error=status_of(error, error.domain))
