"""GroupService."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf import empty_pb2
from tiation.security.v1 import group_pb2 as pb
from tiation.security.v1 import group_pb2_grpc

from mesh.call import Context
from mesh.pagination import Pages
from mesh.shelf import Shelf
from security.directory import Directory
from security.entries import Group

__all__ = ["GroupServicer"]


class GroupServicer(group_pb2_grpc.GroupServiceServicer):
    """Keeps groups.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        self._directory = directory
        self._shelf = Shelf[Group, pb.Group](
            directory, pages, Group, "groups", _show, _read, ("display_name", "members", "labels")
        )

    async def GetGroup(self, request: pb.GetGroupRequest, _: Context) -> pb.Group:
        """One group."""
        return await self._shelf.get(request.name)

    async def ListGroups(self, request: pb.ListGroupsRequest, _: Context) -> pb.ListGroupsResponse:
        """A page of groups."""
        groups, token = await self._shelf.list(request.parent, request)
        return pb.ListGroupsResponse(groups=groups, next_page_token=token)

    async def CreateGroup(self, request: pb.CreateGroupRequest, _: Context) -> pb.Group:
        """A new group."""
        name = self._shelf.name(request.parent, request.group_id)
        return self._shelf.message(await self._shelf.create(name, request.group, request))

    async def UpdateGroup(self, request: pb.UpdateGroupRequest, _: Context) -> pb.Group:
        """A changed group."""
        return await self._shelf.update(request.group, request.update_mask)

    async def DeleteGroup(self, request: pb.DeleteGroupRequest, _: Context) -> empty_pb2.Empty:
        """One group less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def AddMembers(self, request: pb.AddMembersRequest, _: Context) -> pb.Group:
        """The group with more members."""
        return await self._change(request.name, lambda members: members | set(request.members))

    async def RemoveMembers(self, request: pb.RemoveMembersRequest, _: Context) -> pb.Group:
        """The group with fewer members."""
        return await self._change(request.name, lambda members: members - set(request.members))

    async def _change(self, name: str, change: Callable[[set[str]], Iterable[str]]) -> pb.Group:
        return self._shelf.message(await self._directory.change_members(name, change))


def _show(body: Group) -> pb.Group:
    return pb.Group(display_name=body.display_name, members=body.members)


def _read(message: pb.Group) -> Group:
    return Group(message.display_name, tuple(sorted(message.members)))
