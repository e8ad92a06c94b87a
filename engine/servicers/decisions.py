"""DecisionService."""

from __future__ import annotations

from typing import Any

from google.protobuf import empty_pb2
from tiation.engine.v1 import decision_pb2 as pb
from tiation.engine.v1 import decision_pb2_grpc

from engine.decisions.graphs import Decision, Decisions
from engine.errors import DecisionFailedError
from mesh.call import Context
from mesh.json_value import json_to_struct, value_to_json
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.resource import tenant_of
from mesh.sandbox import SandboxPool
from mesh.shelf import Shelf

__all__ = ["DecisionServicer"]

_CHANGEABLE = ("graph", "labels")


class DecisionServicer(decision_pb2_grpc.DecisionServiceServicer):
    """Keeps and evaluates decisions.

    Args:
        decisions: the core.
        pages: makes and checks page tokens.
        sandbox: where graphs are checked and evaluated.
    """

    def __init__(self, decisions: Decisions, pages: Pages, sandbox: SandboxPool) -> None:
        self._shelf: Shelf[Decision, pb.Decision] = Shelf(
            decisions, pages, Decision, "decisions", _show, _read, _CHANGEABLE
        )
        self._decisions = decisions
        self._sandbox = sandbox

    async def GetDecision(self, request: pb.GetDecisionRequest, _: Context) -> pb.Decision:
        """One decision."""
        return await self._shelf.get(request.name)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, _: Context) -> pb.ListDecisionsResponse:
        """A page of decisions."""
        decisions, token = await self._shelf.list(request.parent, request)
        return pb.ListDecisionsResponse(decisions=decisions, next_page_token=token)

    async def CreateDecision(self, request: pb.CreateDecisionRequest, _: Context) -> pb.Decision:
        """A new decision."""
        await self._check(request.decision.graph, request.parent)
        name = self._shelf.name(request.parent, request.decision_id)
        return self._shelf.message(
            await self._shelf.create(name, request.decision, request, validate_only=request.validate_only)
        )

    async def UpdateDecision(self, request: pb.UpdateDecisionRequest, _: Context) -> pb.Decision:
        """A changed decision; another graph is another version."""
        sent = request.decision
        fields = masked_fields(sent, request.update_mask, _CHANGEABLE)
        changed: dict[str, Any] = {}
        if "graph" in fields:
            await self._check(sent.graph, sent.name)
            changed["graph"] = sent.graph
        change = self._decisions.changer(changed, dict(sent.labels) if "labels" in fields else None)
        updated = await self._decisions.update(
            Decision, sent.name, sent.etag, change, validate_only=request.validate_only
        )
        return self._shelf.message(updated)

    async def DeleteDecision(self, request: pb.DeleteDecisionRequest, _: Context) -> empty_pb2.Empty:
        """One decision less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def Decide(self, request: pb.DecideRequest, _: Context) -> pb.DecideResponse:
        """What a decision comes to with these facts."""
        graph, version = await self._decisions.graph(request.name, request.version)
        facts = value_to_json(request.input, "input")
        decided = await self._sandbox.decide(graph.encode(), facts, trace=request.trace, owner=tenant_of(request.name))
        if not isinstance(decided.result, dict):
            raise DecisionFailedError(f"{request.name} came to no object; let its output node give named values")
        answer = pb.DecideResponse(version=version, result=json_to_struct(decided.result, "result"))
        if decided.trace is not None:
            answer.trace.CopyFrom(json_to_struct(decided.trace, "trace"))
        return answer

    async def _check(self, graph: str, name: str) -> None:
        await self._sandbox.validate_decision(graph.encode(), owner=tenant_of(name))


def _show(body: Decision) -> pb.Decision:
    return pb.Decision(graph=body.graph, version=body.version)


def _read(message: pb.Decision) -> Decision:
    return Decision(message.graph)
