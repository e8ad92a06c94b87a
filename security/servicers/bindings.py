"""BindingService."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from google.protobuf import empty_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from tiation.security.v1 import binding_pb2 as pb
from tiation.security.v1 import binding_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.policy_messages import condition_message, read_condition
from mesh.shelf import Shelf, timestamp
from security.directory import Directory
from security.entries import ALLOW, Binding

__all__ = ["BindingServicer"]


class BindingServicer(binding_pb2_grpc.BindingServiceServicer):
    """Keeps bindings.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        changeable = ("start_time", "expire_time", "condition", "labels")
        self._shelf = Shelf[Binding, pb.Binding](directory, pages, Binding, "bindings", _show, _read, changeable)

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
        body = _read(sent)
        if not body.resource:
            body = msgspec.structs.replace(body, resource=request.parent)
        name = self._shelf.name(request.parent, request.binding_id)
        return self._shelf.message(await self._shelf.create(name, sent, request, body))

    async def UpdateBinding(self, request: pb.UpdateBindingRequest, _: Context) -> pb.Binding:
        """A changed binding."""
        return await self._shelf.update(request.binding, request.update_mask)

    async def DeleteBinding(self, request: pb.DeleteBindingRequest, _: Context) -> empty_pb2.Empty:
        """One binding less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()


def _show(body: Binding) -> pb.Binding:
    message = pb.Binding(
        principal=body.principal,
        group=body.group,
        role=body.role,
        resource=body.resource,
        effect=pb.Binding.Effect.Name(body.effect or ALLOW),
        condition=condition_message(body.condition),
    )
    if body.start_time is not None:
        message.start_time.CopyFrom(timestamp(body.start_time))
    if body.expire_time is not None:
        message.expire_time.CopyFrom(timestamp(body.expire_time))
    return message


def _read(message: pb.Binding) -> Binding:
    return Binding(
        message.principal,
        message.role,
        message.resource,
        message.group,
        message.effect,
        _moment(message.start_time) if message.HasField("start_time") else None,
        _moment(message.expire_time) if message.HasField("expire_time") else None,
        read_condition(message.condition) if message.HasField("condition") else None,
    )


def _moment(stamp: Timestamp) -> datetime:
    moment: datetime = stamp.ToDatetime(UTC)
    return moment
