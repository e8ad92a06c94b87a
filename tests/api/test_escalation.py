"""Nobody gives away more than they have: by bindings, roles, groups, keys, or by lifting what is denied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from tiation.security.v1 import api_key_pb2, binding_pb2, group_pb2, principal_pb2, role_pb2, tenant_pb2

from tests.fakes.answers import refused, within
from tests.fakes.directory import HOME, Directory, directory, full
from tests.fakes.platform import Platform

DENIED = (grpc.StatusCode.PERMISSION_DENIED, "GRANT_TOO_LARGE")
MANAGER = (
    "security.*.create", "security.*.update", "security.*.delete", "security.*.get", "security.*.list",
    "engine.models.get", "engine.models.list", "security.access.*",
)  # fmt: skip
"""Somebody who looks after people and sees models, and may do nothing else."""


@asynccontextmanager
async def managed(security: Platform) -> AsyncIterator[tuple[Directory, tuple[str, str]]]:
    """The directory and the authorization of Max, a manager."""
    async with directory(security) as here:
        await here.role("manager", *MANAGER)
        by = await here.user("max", "own/manager")
        await within(2.0, lambda: here.explain("max", "engine.models.get", by=by))
        yield here, by


async def test_a_manager_gives_what_they_have_and_no_more(security: Platform):
    async with managed(security) as (here, by):
        await here.principal("eve", by=by)
        await here.role("looker", "engine.models.get", "engine.models.list", by=by)
        await here.bind("eve-looks", "own/looker", principal="eve", by=by)
        for role in ("admin", "developer", "viewer", "auditor"):
            await refused(here.bind("eve-more", role, principal="eve", by=by), *DENIED)
            await refused(here.bind("self", role, principal="max", by=by), *DENIED)


@pytest.mark.parametrize("permission", ["*", "engine.*.*", "engine.models.push", "*.*.get", "engine.models.*"])
async def test_a_manager_makes_no_role_with_more_than_they_have(security: Platform, permission):
    async with managed(security) as (here, by):
        await refused(here.role("more", permission, by=by), *DENIED)
        made = await here.role("less", "engine.models.get", by=by)
        wider = role_pb2.Role(name=made.name, permissions=["engine.models.get", permission])
        update = role_pb2.UpdateRoleRequest(role=wider, update_mask={"paths": ["permissions"]})
        await refused(here.roles.UpdateRole(update, metadata=[by]), *DENIED)


async def test_a_right_on_one_resource_is_not_given_on_another_or_above(security: Platform):
    async with directory(security) as here:
        await here.role("owner", "orchestrator.*.*")
        await here.role("giver", "security.bindings.create", "security.access.*")
        by = await here.user("ann", "own/owner", f"{HOME}/agents/a")
        await here.bind("ann-gives", "own/giver", principal="ann")
        await here.principal("bob")
        give = {"principal": "bob", "by": by}
        await within(2.0, lambda: here.bind("ok", "own/owner", resource=f"{HOME}/agents/a", **give))
        await here.bind("below", "own/owner", resource=f"{HOME}/agents/a/runs/r", **give)
        for place in (f"{HOME}/agents/b", f"{HOME}/agents/ab", HOME, ""):
            await refused(here.bind("more", "own/owner", resource=place, **give), *DENIED)


async def test_a_right_that_ends_or_holds_at_times_is_not_given_for_longer(security: Platform):
    async with managed(security) as (here, by):
        await here.role("pusher", "engine.models.push")
        await here.principal("bob")
        soon = datetime.now(UTC) + timedelta(hours=1)
        await here.bind("max-pushes", "own/pusher", principal="max", expire_time=soon)
        give = {"principal": "bob", "by": by}
        await refused(here.bind("for-ever", "own/pusher", **give), *DENIED)
        await refused(here.bind("longer", "own/pusher", expire_time=soon + timedelta(seconds=1), **give), *DENIED)
        await here.bind("as-long", "own/pusher", expire_time=soon, **give)
        longer = binding_pb2.Binding(name=full("bindings", "as-long"))
        update = binding_pb2.UpdateBindingRequest(binding=longer, update_mask={"paths": ["expire_time"]})
        await refused(here.bindings.UpdateBinding(update, metadata=[by]), *DENIED)
        await here.unbind("max-pushes")
        await here.bind("max-pushes", "own/pusher", principal="max", condition={"resource_prefix": f"{HOME}/models/m"})
        await refused(here.bind("anywhere", "own/pusher", **give), *DENIED)


async def test_groups_are_no_way_to_more(security: Platform):
    async with managed(security) as (here, by):
        await here.group("admins")
        await here.group("outer", "groups/admins")
        await here.group("mine", by=by)
        await here.bind("admins-all", "admin", group="outer")
        await refused(here.members("admins", add=["max"], by=by), *DENIED)
        await refused(here.members("outer", add=["groups/mine"], by=by), *DENIED)
        replaced = group_pb2.Group(name=full("groups", "admins"), members=[full("principals", "max")])
        update = group_pb2.UpdateGroupRequest(group=replaced, update_mask={"paths": ["members"]})
        await refused(here.groups.UpdateGroup(update, metadata=[by]), *DENIED)
        await here.members("mine", add=["max"], by=by)


async def test_a_key_for_somebody_with_more_is_not_made(security: Platform):
    async with managed(security) as (here, by):
        await here.user("root", "admin")
        await here.principal("eve")
        await refused(here.key("root", "stolen", by=by), *DENIED)
        await here.key("eve", "fine", by=by)
        await here.key("max", "second", by=by)
        limited = await security.token(key=(await here.key("max", "third")).key_string, role="manager")
        await here.key("max", "limited", by=limited)
        await here.bind("max-more", "viewer", principal="max")
        await refused(here.key("max", "unlimited", by=limited), *DENIED)


async def test_a_key_of_somebody_with_more_is_not_made_to_last_longer_nor_is_he_enabled_again(security: Platform):
    async with managed(security) as (here, by):
        await here.user("root", "admin")
        soon = datetime.now(UTC) + timedelta(seconds=60)
        key = await here.key("root", "root-short", expire_time=soon)
        for end in (None, soon + timedelta(days=1)):
            changed = api_key_pb2.ApiKey(name=key.name)
            if end is not None:
                changed.expire_time.FromDatetime(end)
            request = api_key_pb2.UpdateApiKeyRequest(api_key=changed, update_mask={"paths": ["expire_time"]})
            await refused(here.keys.UpdateApiKey(request, metadata=[by]), *DENIED)
        request.api_key.expire_time.FromDatetime(datetime.now(UTC))
        await here.keys.UpdateApiKey(request, metadata=[by])
        root = principal_pb2.Principal(name=full("principals", "root"), disabled=True)
        switch = principal_pb2.UpdatePrincipalRequest(principal=root, update_mask={"paths": ["disabled"]})
        await here.principals.UpdatePrincipal(switch, metadata=[by])
        switch.principal.disabled = False
        await refused(here.principals.UpdatePrincipal(switch, metadata=[by]), *DENIED)
        await here.principals.UpdatePrincipal(switch, metadata=[here.operator])


async def test_what_is_denied_is_neither_lifted_nor_given_by_those_it_is_denied_to(security: Platform):
    async with directory(security) as here:
        await here.role("pusher", "engine.models.push")
        admin = await here.user("root", "admin")
        other = await here.user("other", "admin")
        await here.group("frozen", "root")
        await here.bind("freeze", "own/pusher", group="frozen", deny=True, resource=f"{HOME}/models/m")
        await here.principal("bob")
        lifts = (
            lambda: here.unbind("freeze", by=admin),
            lambda: here.members("frozen", remove=["root"], by=admin),
            lambda: here.groups.DeleteGroup(
                group_pb2.DeleteGroupRequest(name=full("groups", "frozen")), metadata=[admin]
            ),
            lambda: here.bindings.UpdateBinding(
                binding_pb2.UpdateBindingRequest(
                    binding=binding_pb2.Binding(
                        name=full("bindings", "freeze"), condition={"resource_prefix": f"{HOME}/models/mx"}
                    ),
                    update_mask={"paths": ["condition"]},
                ),
                metadata=[admin],
            ),
            lambda: here.roles.UpdateRole(
                role_pb2.UpdateRoleRequest(
                    role=role_pb2.Role(name=full("roles", "pusher"), permissions=["engine.models.get"]),
                    update_mask={"paths": ["permissions"]},
                ),
                metadata=[admin],
            ),
            lambda: here.bind("bob-all", "admin", principal="bob", by=admin),
            lambda: here.key("other", "another", by=admin),
        )
        for lift in lifts:
            await refused(lift(), *DENIED)
        assert not await here.allowed("root", "engine.models.push", f"{HOME}/models/m")
        await here.bind("bob-elsewhere", "own/pusher", principal="bob", resource=f"{HOME}/models/n", by=admin)
        await here.unbind("freeze", by=other)
        assert await here.allowed("root", "engine.models.push", f"{HOME}/models/m")


async def test_a_token_limited_to_a_role_gives_no_more_than_the_role(security: Platform):
    async with directory(security) as here:
        await here.principal("bob")
        await here.role("giver", "security.bindings.create", "engine.models.get")
        limited = await security.token(role="giver")
        await here.role("looker", "engine.models.get")
        await here.bind("looks", "own/looker", principal="bob", by=limited)
        await refused(here.bind("all", "admin", principal="bob", by=limited), *DENIED)


async def test_another_tenants_principals_groups_and_roles_are_not_bound(security: Platform):
    platforms = await security.token(tenant="system")
    async with directory(security) as here:
        await here.tenants.CreateTenant(
            tenant_pb2.CreateTenantRequest(tenant_id="acme", tenant=tenant_pb2.Tenant()), metadata=[platforms]
        )
        inside = await security.token(tenant="acme")
        await here.principal("ada")
        await here.group("all", "ada")
        await here.role("own", "engine.models.get")
        cases = (
            binding_pb2.Binding(principal=full("principals", "ada"), role="tenants/system/roles/viewer"),
            binding_pb2.Binding(group=full("groups", "all"), role="tenants/system/roles/viewer"),
            binding_pb2.Binding(principal="tenants/acme/principals/eve", role=full("roles", "own")),
            binding_pb2.Binding(
                principal="tenants/acme/principals/eve", role="tenants/system/roles/viewer", resource=HOME
            ),
        )
        await here.principals.CreatePrincipal(
            principal_pb2.CreatePrincipalRequest(
                parent="tenants/acme", principal_id="eve", principal=principal_pb2.Principal()
            ),
            metadata=[inside],
        )
        for binding in cases:
            request = binding_pb2.CreateBindingRequest(parent="tenants/acme", binding_id="b", binding=binding)
            await refused(here.bindings.CreateBinding(request, metadata=[inside]), grpc.StatusCode.INVALID_ARGUMENT)
        members = group_pb2.CreateGroupRequest(
            parent="tenants/acme", group_id="g", group=group_pb2.Group(members=[full("principals", "ada")])
        )
        await refused(here.groups.CreateGroup(members, metadata=[inside]), grpc.StatusCode.INVALID_ARGUMENT)
        for name in ("all", "never"):
            get = group_pb2.GetGroupRequest(name=full("groups", name))
            await refused(here.groups.GetGroup(get, metadata=[inside]), grpc.StatusCode.NOT_FOUND)


async def test_a_tenants_limits_are_the_platforms_to_set(security: Platform):
    async with directory(security) as here:
        admin = await here.user("root", "admin")
        await within(2.0, lambda: here.explain("root", "engine.models.get", by=admin))
        changed = tenant_pb2.Tenant(name=HOME, limits={"requests_per_second": 1_000_000})
        request = tenant_pb2.UpdateTenantRequest(tenant=changed, update_mask={"paths": ["limits"]})
        await refused(here.tenants.UpdateTenant(request, metadata=[admin]), *DENIED)
        await here.tenants.UpdateTenant(request, metadata=[here.operator])
