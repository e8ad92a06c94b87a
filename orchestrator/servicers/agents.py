"""AgentService."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import msgspec
from google.protobuf import empty_pb2
from tiation.orchestrator.v1 import agent_pb2 as pb
from tiation.orchestrator.v1 import agent_pb2_grpc

from mesh.call import Context
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.resource import parent_of, tenant_of
from mesh.shelf import Shelf
from orchestrator.agents import Agent, Agents, Queue, revision_name
from orchestrator.flow.check import FlowChecker
from orchestrator.traffic import Target, rolled_back

__all__ = ["AgentServicer"]

_CHANGEABLE = ("flow", "display_name", "labels", "queue", "traffic")


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """Keeps agents.

    Args:
        agents: the core.
        pages: makes and checks page tokens.
        checker: checks flows.
        wake: looks for runs that may begin.
    """

    def __init__(self, agents: Agents, pages: Pages, checker: FlowChecker, wake: Callable[[], None]) -> None:
        self._shelf: Shelf[Agent, pb.Agent] = Shelf(agents, pages, Agent, "agents", _show, _read, _CHANGEABLE)
        self._agents = agents
        self._checker = checker
        self._wake = wake

    async def GetAgent(self, request: pb.GetAgentRequest, _: Context) -> pb.Agent:
        """One agent."""
        return self._message(await self._agents.get(Agent, request.name))

    async def ListAgents(self, request: pb.ListAgentsRequest, _: Context) -> pb.ListAgentsResponse:
        """A page of agents."""
        agents, token = await self._shelf.list(request.parent, request)
        for agent in agents:
            agent.current_revision = f"{agent.name}/revisions/{agent.current_revision}"
        return pb.ListAgentsResponse(agents=agents, next_page_token=token)

    async def CreateAgent(self, request: pb.CreateAgentRequest, _: Context) -> pb.Agent:
        """A new agent."""
        await self._checker.check(request.agent.flow, agent_id=request.agent_id, tenant=tenant_of(request.parent))
        name = self._shelf.name(request.parent, request.agent_id)
        return self._message(
            await self._shelf.create(name, request.agent, request, validate_only=request.validate_only)
        )

    async def UpdateAgent(self, request: pb.UpdateAgentRequest, _: Context) -> pb.Agent:
        """A changed agent; another flow is another revision."""
        sent = request.agent
        fields, read = masked_fields(sent, request.update_mask, _CHANGEABLE), _read(sent)
        if "flow" in fields:
            await self._checker.check(sent.flow, agent_id=sent.name.rsplit("/", 1)[1], tenant=tenant_of(sent.name))

        def change(entry: Entry[Agent]) -> Entry[Agent]:
            own = {field: getattr(read, field) for field in fields if field != "labels"}
            if own.get("flow", entry.body.flow) != entry.body.flow:
                own["revision"] = entry.body.revision + 1
            labels = dict(sent.labels) if "labels" in fields else entry.labels
            return replace(entry, body=msgspec.structs.replace(entry.body, **own), labels=labels)

        updated = await self._agents.update(Agent, sent.name, sent.etag, change, validate_only=request.validate_only)
        return self._message(updated)

    async def DeleteAgent(self, request: pb.DeleteAgentRequest, _: Context) -> empty_pb2.Empty:
        """One agent less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def SetTraffic(self, request: pb.SetTrafficRequest, _: Context) -> pb.Agent:
        """Other revisions for new runs."""
        targets = _targets(request.traffic)

        def change(entry: Entry[Agent]) -> Entry[Agent]:
            return replace(entry, body=msgspec.structs.replace(entry.body, traffic=targets))

        return self._message(await self._agents.update(Agent, request.name, request.etag, change))

    async def RollbackAgent(self, request: pb.RollbackAgentRequest, _: Context) -> pb.Agent:
        """An earlier revision for new runs."""
        if request.revision and parent_of(request.revision) != request.name:
            raise InvalidError("revision", f"must be one of {request.name}")
        to = _number(request.revision.rsplit("/", 1)[-1]) if request.revision else None

        def change(entry: Entry[Agent]) -> Entry[Agent]:
            rolled = rolled_back(entry.body.traffic, entry.body.revision, to)
            return replace(entry, body=msgspec.structs.replace(entry.body, traffic=rolled))

        return self._message(await self._agents.update(Agent, request.name, request.etag, change))

    async def PauseAgent(self, request: pb.PauseAgentRequest, _: Context) -> pb.Agent:
        """New runs wait."""
        return await self._set_paused(request.name, paused=True)

    async def ResumeAgent(self, request: pb.ResumeAgentRequest, _: Context) -> pb.Agent:
        """New runs begin again."""
        resumed = await self._set_paused(request.name, paused=False)
        self._wake()
        return resumed

    async def _set_paused(self, name: str, *, paused: bool) -> pb.Agent:
        def change(entry: Entry[Agent]) -> Entry[Agent]:
            return replace(entry, body=msgspec.structs.replace(entry.body, paused=paused))

        return self._message(await self._agents.update(Agent, name, "", change))

    def _message(self, entry: Entry[Agent]) -> pb.Agent:
        message = self._shelf.message(entry)
        message.current_revision = revision_name(entry.name, entry.body.revision)
        return message


def _show(body: Agent) -> pb.Agent:
    message = pb.Agent(
        flow=body.flow,
        display_name=body.display_name,
        state=pb.Agent.PAUSED if body.paused else pb.Agent.READY,
        current_revision=f"r{body.revision}",
        traffic=[pb.TrafficTarget(revision=f"r{each.revision}", percent=each.percent) for each in body.traffic],
    )
    if body.queue != Queue():
        message.queue.CopyFrom(pb.Queue(**msgspec.structs.asdict(body.queue)))
    return message


def _read(message: pb.Agent) -> Agent:
    sent = message.queue
    queue = Queue(sent.priority, sent.max_priority, sent.max_concurrency, sent.max_queued)
    return Agent(message.flow, message.display_name, queue=queue, traffic=_targets(message.traffic))


def _targets(sent: Iterable[pb.TrafficTarget]) -> tuple[Target, ...]:
    return tuple(Target(_number(each.revision), each.percent) for each in sent)


def _number(revision: str) -> int:
    """The number of a revision from its id, `r3`."""
    digits = revision.removeprefix("r")
    return int(digits) if digits.isdecimal() else 0
