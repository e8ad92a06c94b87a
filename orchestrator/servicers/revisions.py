"""RevisionService."""

from __future__ import annotations

from tiation.orchestrator.v1 import revision_pb2 as pb
from tiation.orchestrator.v1 import revision_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.shelf import Shelf
from orchestrator.agents import Agent, Agents, Revision

__all__ = ["RevisionServicer"]


class RevisionServicer(revision_pb2_grpc.RevisionServiceServicer):
    """Shows revisions.

    Args:
        agents: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, agents: Agents, pages: Pages) -> None:
        self._shelf: Shelf[Revision, pb.Revision] = Shelf(agents, pages, Revision, "revisions", _show, _read)
        self._agents = agents

    async def GetRevision(self, request: pb.GetRevisionRequest, _: Context) -> pb.Revision:
        """One revision."""
        return await self._shelf.get(request.name)

    async def ListRevisions(self, request: pb.ListRevisionsRequest, _: Context) -> pb.ListRevisionsResponse:
        """A page of an agent's revisions."""
        await self._agents.get(Agent, request.parent)
        revisions, token = await self._shelf.list(request.parent, request)
        return pb.ListRevisionsResponse(revisions=revisions, next_page_token=token)


def _show(body: Revision) -> pb.Revision:
    return pb.Revision(flow=body.flow, flow_sha256=body.flow_sha256)


def _read(message: pb.Revision) -> Revision:
    return Revision(message.flow, message.flow_sha256)
