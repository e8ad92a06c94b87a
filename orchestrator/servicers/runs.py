"""RunService."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from tiation.orchestrator.v1 import run_pb2 as pb
from tiation.orchestrator.v1 import run_pb2_grpc

from mesh.call import Context
from mesh.catalogue import AlreadyExistsError, NotFoundError
from mesh.db import Database, Transaction
from mesh.entries import Creation
from mesh.etag import etag_of
from mesh.identity import Requester, current_caller
from mesh.json_value import json_to_value, value_to_json
from mesh.pagination import Pages
from mesh.resource import parent_of
from mesh.shelf import creation_of, timestamp
from mesh.status import status_of
from orchestrator.agents import Agent, Agents, revision_name
from orchestrator.errors import AgentPausedError, InputTooLargeError, ShuttingDownError
from orchestrator.executor import Executor
from orchestrator.notices import Notices
from orchestrator.ports import RunRows
from orchestrator.problem import Problem
from orchestrator.runs import ENDED, Event, Run
from orchestrator.values import fault_of

__all__ = ["RunServicer"]

_EVENTS_AT_ONCE = 100
_LOOK_AGAIN_S = 0.5


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """Starts, shows and cancels runs.

    Args:
        agents: knows the agents.
        database: the service's own database.
        rows: statements for runs.
        executor: works on runs.
        notices: says when a journal has grown.
        pages: makes and checks page tokens.
    """

    def __init__(
        self, agents: Agents, database: Database, rows: RunRows, executor: Executor, notices: Notices, pages: Pages
    ) -> None:
        self._agents = agents
        self._database = database
        self._rows = rows
        self._executor = executor
        self._notices = notices
        self._pages = pages

    async def GetRun(self, request: pb.GetRunRequest, _: Context) -> pb.Run:
        """One run."""
        return _message(await self._found(request.name))

    async def ListRuns(self, request: pb.ListRunsRequest, _: Context) -> pb.ListRunsResponse:
        """A page of an agent's runs, by name."""
        bound_to = ("Run", request.parent)
        page = self._pages.start(bound_to, request.page_size, request.page_token)
        await self._agents.get(Agent, request.parent)
        found = await self._database.read(lambda transaction: self._rows.page(transaction, request.parent, page))
        kept, token = self._pages.cut(bound_to, page, found, [run.name for run in found])
        return pb.ListRunsResponse(runs=[_message(run) for run in kept], next_page_token=token)

    async def CreateRun(self, request: pb.CreateRunRequest, _: Context) -> pb.Run:
        """A new run; it is durable when the answer goes."""
        caller = current_caller()
        creation = creation_of(request)
        given = value_to_json(request.run.input, "run.input") if request.run.HasField("input") else None
        fault = fault_of(given)
        if fault:
            raise InputTooLargeError(f"run.input {fault}")
        requester = Requester(caller.tenant, caller.subject, role=caller.role)
        kept = await self._database.write(
            lambda transaction: self._keep(transaction, request, given, requester, creation)
        )
        self._executor.wake()
        return _message(kept)

    async def CancelRun(self, request: pb.CancelRunRequest, _: Context) -> pb.Run:
        """Ask a run to end."""
        now = datetime.now(UTC)
        run = await self._database.write(lambda transaction: self._rows.request_cancel(transaction, request.name, now))
        if run is None:
            raise NotFoundError(request.name)
        self._executor.cancel(request.name)
        self._notices.tell(request.name)
        return _message(run)

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
                    yield pb.StreamRunEventsResponse(event=_event(event))
                if state in ENDED and seen >= newest:
                    return
                if self._notices.closed:
                    yield _broken(seen)
                    return
                if not events:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_AGAIN_S):
                            await grown.wait()

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

    def _keep(
        self,
        transaction: Transaction,
        request: pb.CreateRunRequest,
        given: Any,  # noqa: ANN401 -- any JSON
        requester: Requester,
        creation: Creation,
    ) -> Run:
        """Keep a new run, unless the same request has made one before; the agent is as it is in this transaction."""
        agent = self._agents.found(transaction, Agent, request.parent)
        now = datetime.now(UTC)
        run_id = request.run_id or f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"
        run = Run(
            name=f"{agent.name}/runs/{run_id}",
            uid=str(uuid.uuid4()),
            revision=revision_name(agent.name, agent.body.revision),
            state="QUEUED",
            input=given,
            requester=requester,
            create_time=now,
            update_time=now,
            sequence=1,
            labels=dict(request.run.labels),
        )
        earlier = self._earlier(transaction, run.name, creation)
        if earlier is not None:
            return earlier
        if agent.body.paused:
            raise AgentPausedError(f"{agent.name} is paused; resume it first", resource=agent.name)
        self._rows.add(transaction, run, creation.request_id, creation.digest)
        return run

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
    )
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
    )
    if what.result is not None:
        message.result.CopyFrom(json_to_value(what.result.output, "event.result"))
    elif what.kind == "RUN_SUCCEEDED":
        message.result.CopyFrom(json_to_value(what.value, "event.result"))
    if what.problem is not None:
        message.error.CopyFrom(_problem(what.problem))
    return message


def _problem(problem: Problem) -> pb.Problem:
    return pb.Problem(**msgspec.structs.asdict(problem))


def _broken(seen: int) -> pb.StreamRunEventsResponse:
    message = f"the orchestrator stops; go on with after_sequence={seen}"
    error = ShuttingDownError(message, retry_after_s=1.0, sequence=seen)
    return pb.StreamRunEventsResponse(error=status_of(error, error.domain))
