"""What tests of access do in a few words: principals with keys, groups, roles, bindings, as the operator makes them."""

from __future__ import annotations

from contextlib import asynccontextmanager

import grpc.aio
from tiation.security.v1 import (
    access_pb2,
    access_pb2_grpc,
    api_key_pb2,
    api_key_pb2_grpc,
    binding_pb2,
    binding_pb2_grpc,
    group_pb2,
    group_pb2_grpc,
    principal_pb2,
    principal_pb2_grpc,
    role_pb2,
    role_pb2_grpc,
    tenant_pb2_grpc,
)

from tests.fakes.platform import Platform

HOME = "tenants/default"


def full(collection: str, name: str) -> str:
    """A full name in the default tenant."""
    return name if name.startswith("tenants/") else f"{HOME}/{collection}/{name}"


def role_name(role: str) -> str:
    """A role of the platform by its id, one of the tenant's own as `own/ID`."""
    own = role.removeprefix("own/")
    return f"{HOME if own != role else 'tenants/system'}/roles/{own}"


class Directory:
    """Security's own resources through one channel.

    Attributes:
        platform: where.
        operator: the authorization of the operator in the default tenant.
    """

    def __init__(self, platform: Platform, channel: grpc.aio.Channel, operator: tuple[str, str]) -> None:
        self.platform, self.channel, self.operator = platform, channel, operator
        self.principals = principal_pb2_grpc.PrincipalServiceStub(channel)
        self.groups = group_pb2_grpc.GroupServiceStub(channel)
        self.keys = api_key_pb2_grpc.ApiKeyServiceStub(channel)
        self.roles = role_pb2_grpc.RoleServiceStub(channel)
        self.bindings = binding_pb2_grpc.BindingServiceStub(channel)
        self.access = access_pb2_grpc.AccessServiceStub(channel)
        self.tenants = tenant_pb2_grpc.TenantServiceStub(channel)

    async def principal(self, name: str, by=None, **fields) -> principal_pb2.Principal:
        request = principal_pb2.CreatePrincipalRequest(
            parent=HOME, principal_id=name, principal=principal_pb2.Principal(**fields)
        )
        return await self.principals.CreatePrincipal(request, metadata=[by or self.operator])

    async def key(self, principal: str, key_id: str = "", by=None, **fields) -> api_key_pb2.ApiKey:
        key = api_key_pb2.ApiKey(principal=full("principals", principal), **fields)
        request = api_key_pb2.CreateApiKeyRequest(parent=HOME, api_key_id=key_id or principal, api_key=key)
        return await self.keys.CreateApiKey(request, metadata=[by or self.operator])

    async def user(self, name: str, role: str = "", resource: str = "") -> tuple[str, str]:
        """A principal with a key and perhaps a role; its authorization."""
        await self.principal(name)
        if role:
            await self.bind(f"{name}-{role.rsplit('/', 1)[-1]}", role, principal=name, resource=resource)
        return await self.platform.token(key=(await self.key(name)).key_string)

    async def group(self, name: str, *members: str, by=None) -> group_pb2.Group:
        """A group; a member `groups/x` is a group."""
        names = [f"{HOME}/{member if '/' in member else 'principals/' + member}" for member in members]
        request = group_pb2.CreateGroupRequest(parent=HOME, group_id=name, group=group_pb2.Group(members=names))
        return await self.groups.CreateGroup(request, metadata=[by or self.operator])

    async def members(self, group: str, *, add=(), remove=(), by=None) -> group_pb2.Group:
        answer = None
        for kind, method, members in (
            (group_pb2.AddMembersRequest, self.groups.AddMembers, add),
            (group_pb2.RemoveMembersRequest, self.groups.RemoveMembers, remove),
        ):
            if members:
                names = [f"{HOME}/{member if '/' in member else 'principals/' + member}" for member in members]
                request = kind(name=full("groups", group), members=names)
                answer = await method(request, metadata=[by or self.operator])
        return answer

    async def role(self, name: str, *permissions: str, by=None) -> role_pb2.Role:
        request = role_pb2.CreateRoleRequest(parent=HOME, role_id=name, role=role_pb2.Role(permissions=permissions))
        return await self.roles.CreateRole(request, metadata=[by or self.operator])

    async def bind(
        self, name: str, role: str, *, principal="", group="", resource="", deny=False, by=None, **fields
    ) -> binding_pb2.Binding:
        binding = binding_pb2.Binding(
            principal=full("principals", principal) if principal else "",
            group=full("groups", group) if group else "",
            role=role_name(role),
            resource=resource,
            effect="DENY" if deny else "ALLOW",
            **fields,
        )
        request = binding_pb2.CreateBindingRequest(parent=HOME, binding_id=name, binding=binding)
        return await self.bindings.CreateBinding(request, metadata=[by or self.operator])

    async def unbind(self, name: str, by=None) -> None:
        request = binding_pb2.DeleteBindingRequest(name=full("bindings", name))
        await self.bindings.DeleteBinding(request, metadata=[by or self.operator])

    async def explain(self, principal: str, permission: str, resource: str = "", by=None):
        query = access_pb2.AccessQuery(
            principal=full("principals", principal), permission=permission, resource=resource
        )
        request = access_pb2.ExplainAccessRequest(parent=HOME, query=query)
        return await self.access.ExplainAccess(request, metadata=[by or self.operator])

    async def allowed(self, principal: str, permission: str, resource: str = "") -> bool:
        return (await self.explain(principal, permission, resource)).allowed


@asynccontextmanager
async def directory(platform: Platform):
    """The directory of a platform that runs."""
    async with platform.channel("security") as channel:
        yield Directory(platform, channel, await platform.token())
