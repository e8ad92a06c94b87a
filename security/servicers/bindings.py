"""BindingService."""

from __future__ import annotations

from google.protobuf import empty_pb2
from tiation.security.v1 import binding_pb2 as pb
from tiation.security.v1 import binding_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.shelf import Shelf
from security.directory import Directory
from security.entries import Binding

__all__ = ["BindingServicer"]


class BindingServicer(binding_pb2_grpc.BindingServiceServicer):
    """Keeps bindings.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        self._shelf = Shelf[Binding, pb.Binding](directory, pages, Binding, "bindings", _show, _read)

    async def GetBinding(self, request: pb.GetBindingRequest, _: Context) -> pb.Binding:
        """One binding."""
        return await self._shelf.get(request.name)

    async def ListBindings(self, request: pb.ListBindingsRequest, _: Context) -> pb.ListBindingsResponse:
        """A page of bindings."""
        bindings, token = await self._shelf.list(request.parent, request)
        return pb.ListBindingsResponse(bindings=bindings, next_page_token=token)

    async def CreateBinding(self, request: pb.CreateBindingRequest, _: Context) -> pb.Binding:
        """A new binding; without a resource it is on the whole tenant."""
        sent = request.binding
        body = Binding(sent.principal, sent.role, sent.resource or request.parent)
        name = self._shelf.name(request.parent, request.binding_id)
        return self._shelf.message(await self._shelf.create(name, sent, request, body))

    async def DeleteBinding(self, request: pb.DeleteBindingRequest, _: Context) -> empty_pb2.Empty:
        """One binding less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()


def _show(body: Binding) -> pb.Binding:
    return pb.Binding(principal=body.principal, role=body.role, resource=body.resource)


def _read(message: pb.Binding) -> Binding:
    return Binding(message.principal, message.role, message.resource)
