"""RoleService."""

from __future__ import annotations

from tiation.security.v1 import role_pb2 as pb
from tiation.security.v1 import role_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.shelf import Shelf
from security.directory import Directory
from security.entries import Role

__all__ = ["RoleServicer"]


class RoleServicer(role_pb2_grpc.RoleServiceServicer):
    """Shows roles.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        self._shelf = Shelf[Role, pb.Role](directory, pages, Role, "roles", _show, _read)

    async def GetRole(self, request: pb.GetRoleRequest, _: Context) -> pb.Role:
        """One role."""
        return await self._shelf.get(request.name)

    async def ListRoles(self, request: pb.ListRolesRequest, _: Context) -> pb.ListRolesResponse:
        """A page of roles."""
        roles, token = await self._shelf.list(request.parent, request)
        return pb.ListRolesResponse(roles=roles, next_page_token=token)


def _show(body: Role) -> pb.Role:
    return pb.Role(title=body.title, description=body.description, permissions=body.permissions)


def _read(message: pb.Role) -> Role:
    return Role(message.title, message.description, tuple(message.permissions))
