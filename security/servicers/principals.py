"""PrincipalService."""

from __future__ import annotations

from google.protobuf import empty_pb2
from tiation.security.v1 import principal_pb2 as pb
from tiation.security.v1 import principal_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.policy_messages import limits_message, read_limits
from mesh.shelf import Shelf, timestamp
from security.directory import Directory
from security.entries import Principal

__all__ = ["PrincipalServicer"]


class PrincipalServicer(principal_pb2_grpc.PrincipalServiceServicer):
    """Keeps principals.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        changeable = ("kind", "display_name", "disabled", "limits", "labels")
        self._shelf = Shelf[Principal, pb.Principal](
            directory, pages, Principal, "principals", _show, _read, changeable
        )

    async def GetPrincipal(self, request: pb.GetPrincipalRequest, _: Context) -> pb.Principal:
        """One principal."""
        return await self._shelf.get(request.name)

    async def ListPrincipals(self, request: pb.ListPrincipalsRequest, _: Context) -> pb.ListPrincipalsResponse:
        """A page of principals."""
        principals, token = await self._shelf.list(request.parent, request)
        return pb.ListPrincipalsResponse(principals=principals, next_page_token=token)

    async def CreatePrincipal(self, request: pb.CreatePrincipalRequest, _: Context) -> pb.Principal:
        """A new principal."""
        name = self._shelf.name(request.parent, request.principal_id)
        return self._shelf.message(await self._shelf.create(name, request.principal, request))

    async def UpdatePrincipal(self, request: pb.UpdatePrincipalRequest, _: Context) -> pb.Principal:
        """A changed principal."""
        return await self._shelf.update(request.principal, request.update_mask)

    async def DeletePrincipal(self, request: pb.DeletePrincipalRequest, _: Context) -> empty_pb2.Empty:
        """One principal less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()


def _show(body: Principal) -> pb.Principal:
    message = pb.Principal(
        kind=pb.Principal.Kind.Name(body.kind),
        display_name=body.display_name,
        disabled=body.disabled,
        limits=limits_message(body.limits),
    )
    if body.revoke_time is not None:
        message.revoke_time.CopyFrom(timestamp(body.revoke_time))
    return message


def _read(message: pb.Principal) -> Principal:
    limits = read_limits(message.limits) if message.HasField("limits") else None
    return Principal(message.kind, message.display_name, message.disabled, limits)
