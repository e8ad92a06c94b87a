"""RoleService."""

from __future__ import annotations

from google.protobuf import empty_pb2
from tiation.security.v1 import role_pb2 as pb
from tiation.security.v1 import role_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.shelf import Shelf
from security.directory import Directory
from security.entries import Role

__all__ = ["RoleServicer"]


class RoleServicer(role_pb2_grpc.RoleServiceServicer):
    """Keeps roles.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        changeable = ("title", "description", "permissions", "labels")
        self._shelf = Shelf[Role, pb.Role](directory, pages, Role, "roles", _show, _read, changeable)

    async def GetRole(self, request: pb.GetRoleRequest, _: Context) -> pb.Role:
        """One role."""
        return await self._shelf.get(request.name)

    async def ListRoles(self, request: pb.ListRolesRequest, _: Context) -> pb.ListRolesResponse:
        """A page of roles."""
        roles, token = await self._shelf.list(request.parent, request)
        return pb.ListRolesResponse(roles=roles, next_page_token=token)

    async def CreateRole(self, request: pb.CreateRoleRequest, _: Context) -> pb.Role:
        """A new role."""
        name = self._shelf.name(request.parent, request.role_id)
        return self._shelf.message(await self._shelf.create(name, request.role, request))

    async def UpdateRole(self, request: pb.UpdateRoleRequest, _: Context) -> pb.Role:
        """A changed role."""
        return await self._shelf.update(request.role, request.update_mask)

    async def DeleteRole(self, request: pb.DeleteRoleRequest, _: Context) -> empty_pb2.Empty:
        """One role less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()


def _show(body: Role) -> pb.Role:
    return pb.Role(title=body.title, description=body.description, permissions=body.permissions)


def _read(message: pb.Role) -> Role:
    return Role(message.title, message.description, tuple(message.permissions))
