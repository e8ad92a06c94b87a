"""Groups, custom roles, denials, expiry and conditions, as security answers for them, and why it says so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf import field_mask_pb2
from tiation.security.v1 import access_pb2, binding_pb2, group_pb2, principal_pb2, role_pb2, tenant_pb2

from tests.fakes.answers import reason_of, refused, within
from tests.fakes.directory import HOME, directory, full
from tests.fakes.platform import Platform

AGENT = f"{HOME}/agents/triage"


async def test_a_group_gives_its_members_what_is_bound_to_it_through_other_groups_too(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        await here.group("night", "ada")
        made = await here.group("support", "groups/night")
        assert list(made.members) == [f"{HOME}/groups/night"]
        await here.bind("support-develops", "developer", group="support", resource=AGENT)
        assert await here.allowed("ada", "orchestrator.runs.create", AGENT)
        assert not await here.allowed("ada", "orchestrator.runs.create", f"{HOME}/agents/other")
        found = await here.explain("ada", "orchestrator.runs.create", AGENT)
        assert list(found.rule.group_path) == [f"{HOME}/groups/night", f"{HOME}/groups/support"]
        assert found.rule.binding == f"{HOME}/bindings/support-develops"
        await here.members("night", remove=["ada"])
        assert not await here.allowed("ada", "orchestrator.runs.create", AGENT)
        await here.members("support", add=["ada"])
        assert await here.allowed("ada", "orchestrator.runs.create", AGENT)


async def test_groups_in_a_circle_too_deep_or_with_strangers_are_refused(security: Platform):
    async with directory(security) as here:
        await here.group("g0")
        for number in range(1, 8):
            await here.group(f"g{number}", f"groups/g{number - 1}")
        too_deep = here.group("g8", "groups/g7")
        await refused(too_deep, grpc.StatusCode.FAILED_PRECONDITION, "GROUP_NESTING")
        for circle in (here.members("g0", add=["groups/g7"]), here.members("g0", add=["groups/g0"])):
            await refused(circle, grpc.StatusCode.FAILED_PRECONDITION, "GROUP_NESTING")
        for stranger in ("nobody", "groups/none"):
            await refused(here.members("g0", add=[stranger]), grpc.StatusCode.INVALID_ARGUMENT)
        foreign = group_pb2.AddMembersRequest(name=full("groups", "g0"), members=["tenants/system/principals/operator"])
        await refused(here.groups.AddMembers(foreign, metadata=[here.operator]), grpc.StatusCode.FAILED_PRECONDITION)
        malformed = group_pb2.AddMembersRequest(name=full("groups", "g0"), members=["ada"])
        await refused(here.groups.AddMembers(malformed, metadata=[here.operator]), grpc.StatusCode.INVALID_ARGUMENT)


async def test_a_deleted_principal_leaves_its_groups_and_a_deleted_group_its_bindings(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        await here.group("support", "ada")
        await here.group("all", "groups/support")
        await here.bind("all-views", "viewer", group="all")
        await here.principals.DeletePrincipal(
            principal_pb2.DeletePrincipalRequest(name=full("principals", "ada")), metadata=[here.operator]
        )
        get = group_pb2.GetGroupRequest(name=full("groups", "support"))
        assert list((await here.groups.GetGroup(get, metadata=[here.operator])).members) == []
        await here.groups.DeleteGroup(
            group_pb2.DeleteGroupRequest(name=full("groups", "all")), metadata=[here.operator]
        )
        await refused(
            here.bindings.GetBinding(
                binding_pb2.GetBindingRequest(name=full("bindings", "all-views")), metadata=[here.operator]
            ),
            grpc.StatusCode.NOT_FOUND,
        )


async def test_a_custom_role_lives_and_what_it_allows_follows_its_changes(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        made = await here.role("runner", "orchestrator.runs.create")
        await here.bind("ada-runs", "own/runner", principal="ada")
        assert await here.allowed("ada", "orchestrator.runs.create")
        assert not await here.allowed("ada", "orchestrator.runs.get")
        changed = await here.roles.UpdateRole(
            role_pb2.UpdateRoleRequest(
                role=role_pb2.Role(name=made.name, etag=made.etag, permissions=["orchestrator.*.get"]),
                update_mask=field_mask_pb2.FieldMask(paths=["permissions"]),
            ),
            metadata=[here.operator],
        )
        assert list(changed.permissions) == ["orchestrator.*.get"]
        assert not await here.allowed("ada", "orchestrator.runs.create")
        assert await here.allowed("ada", "orchestrator.runs.get")
        deletion = role_pb2.DeleteRoleRequest(name=made.name)
        error = await refused(
            here.roles.DeleteRole(deletion, metadata=[here.operator]),
            grpc.StatusCode.FAILED_PRECONDITION,
            "ROLE_IN_USE",
        )
        assert f"{HOME}/bindings/ada-runs" in error.details()
        await here.unbind("ada-runs")
        await here.roles.DeleteRole(deletion, metadata=[here.operator])


@pytest.mark.parametrize(
    ("permissions", "hint"),
    [
        (["engine.models.puch"], "engine.models.push"),
        (["engine.model.*"], "service.resource.verb"),
        (["nonsense"], "service.resource.verb"),
        (["*.*"], "service.resource.verb"),
    ],
)
async def test_a_role_with_a_permission_that_does_not_exist_is_refused_with_the_nearest(
    security: Platform, permissions, hint
):
    async with directory(security) as here:
        error = await refused(here.role("wrong", *permissions), grpc.StatusCode.INVALID_ARGUMENT)
        assert hint in error.details() or "did you mean" in error.details()


async def test_the_platforms_roles_are_never_changed_nor_shadowed(security: Platform):
    async with directory(security) as here:
        operator = await security.token(tenant="system")
        name = "tenants/system/roles/viewer"
        for call in (
            here.roles.DeleteRole(role_pb2.DeleteRoleRequest(name=name), metadata=[operator]),
            here.roles.UpdateRole(
                role_pb2.UpdateRoleRequest(role=role_pb2.Role(name=name, permissions=["*"])), metadata=[operator]
            ),
            here.roles.CreateRole(
                role_pb2.CreateRoleRequest(parent="tenants/system", role_id="new", role=role_pb2.Role()),
                metadata=[operator],
            ),
        ):
            await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_BUILT_IN")
        await refused(here.role("viewer", "engine.models.get"), grpc.StatusCode.INVALID_ARGUMENT)


async def test_a_denial_wins_over_whatever_allows_and_goes_with_its_binding(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        await here.bind("ada-all", "admin", principal="ada")
        await here.role("pushing", "engine.models.push")
        await here.group("frozen", "ada")
        await here.bind("freeze", "own/pushing", group="frozen", deny=True)
        assert not await here.allowed("ada", "engine.models.push", f"{HOME}/models/m")
        assert await here.allowed("ada", "engine.models.get", f"{HOME}/models/m")
        found = await here.explain("ada", "engine.models.push", f"{HOME}/models/m")
        assert found.reason.startswith(f"denied by {HOME}/bindings/freeze")
        assert list(found.rule.group_path) == [f"{HOME}/groups/frozen"]
        await here.unbind("freeze")
        assert await here.allowed("ada", "engine.models.push", f"{HOME}/models/m")


async def test_a_binding_holds_only_between_its_times(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        now = datetime.now(UTC)
        await here.bind(
            "soon",
            "viewer",
            principal="ada",
            start_time=now + timedelta(seconds=1.2),
            expire_time=now + timedelta(seconds=2.4),
        )
        found = await here.explain("ada", "engine.models.get")
        assert "holds from" in found.reason
        await asyncio.sleep(1.4)
        assert await here.allowed("ada", "engine.models.get")
        await asyncio.sleep(1.2)
        found = await here.explain("ada", "engine.models.get")
        assert not found.allowed
        assert "expired at" in found.near_misses[0].lacks
        extended = binding_pb2.Binding(name=full("bindings", "soon"))
        extended.expire_time.FromDatetime(now + timedelta(hours=1))
        await here.bindings.UpdateBinding(
            binding_pb2.UpdateBindingRequest(binding=extended, update_mask={"paths": ["expire_time"]}),
            metadata=[here.operator],
        )
        assert await here.allowed("ada", "engine.models.get")


async def test_a_condition_limits_a_binding_to_names_and_hours(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        today = datetime.now(UTC).isoweekday()
        other = binding_pb2.TimeWindow(days=[(today + 2) % 7 + 1], time_zone="Europe/Berlin")
        await here.bind("named", "viewer", principal="ada", condition={"resource_prefix": f"{HOME}/agents/tri"})
        assert await here.allowed("ada", "orchestrator.agents.get", AGENT)
        assert not await here.allowed("ada", "orchestrator.agents.get", f"{HOME}/agents/other")
        await here.bind("hours", "viewer", principal="ada", condition={"time_windows": [other]})
        found = await here.explain("ada", "orchestrator.agents.get", f"{HOME}/agents/other")
        assert "other times" in " ".join(near.lacks for near in found.near_misses)
        await here.bind("always", "viewer", principal="ada", condition={"time_windows": [binding_pb2.TimeWindow()]})
        assert await here.allowed("ada", "orchestrator.agents.get", f"{HOME}/agents/other")


@pytest.mark.parametrize(
    "condition",
    [
        {"time_windows": [{"start": "25:00"}]},
        {"time_windows": [{"time_zone": "Europe/Nowhere"}]},
        {"time_windows": [{"time_zone": "../../etc/passwd"}]},
        {"time_windows": [{"days": [0]}]},
        {"resource_prefix": "tenants/other/"},
    ],
)
async def test_a_condition_that_makes_no_sense_is_refused(security: Platform, condition):
    async with directory(security) as here:
        await here.principal("ada")
        await refused(
            here.bind("odd", "viewer", principal="ada", condition=condition), grpc.StatusCode.INVALID_ARGUMENT
        )


async def test_a_binding_names_one_of_principal_and_group(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        await here.group("all")
        for who in ({}, {"principal": "ada", "group": "all"}):
            await refused(here.bind("odd", "viewer", **who), grpc.StatusCode.INVALID_ARGUMENT)


async def test_explain_says_what_comes_nearest(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        await here.bind("ada-views", "viewer", principal="ada")
        await here.bind("ada-runs", "developer", principal="ada", resource=AGENT)
        found = await here.explain("ada", "engine.models.push", f"{HOME}/models/m")
        assert not found.allowed
        assert [near.binding.rsplit("/", 1)[1] for near in found.near_misses] == ["ada-runs", "ada-views"]
        assert found.near_misses[1].lacks == "whose role lacks engine.models.push"
        assert found.near_misses[0].lacks == f"which is on {AGENT}, not on {HOME}/models/m"
        assert found.policy_revision > 0
        assert "principal unknown" in (await here.explain("nobody", "engine.models.get")).reason


async def test_the_policy_is_asked_by_those_who_may_and_tells_nothing_of_other_tenants(security: Platform):
    async with directory(security) as here:
        viewer, auditor = await here.user("vic", "viewer"), await here.user("aud", "auditor")
        await within(1.0, lambda: here.explain("vic", "engine.models.get", by=auditor))
        await refused(here.explain("vic", "engine.models.get", by=viewer), grpc.StatusCode.PERMISSION_DENIED)
        answers = set()
        for stranger in ("tenants/system/principals/operator", "tenants/other/principals/never"):
            error = await refused(
                here.explain(stranger, "engine.models.get", by=auditor), grpc.StatusCode.INVALID_ARGUMENT
            )
            answers.add(error.details())
        assert len(answers) == 1
        await refused(here.explain("vic", "engine.models.gett", by=auditor), grpc.StatusCode.INVALID_ARGUMENT)
        questions = [
            access_pb2.AccessQuery(principal=full("principals", "vic"), permission=permission)
            for permission in ("engine.models.get", "engine.models.push")
        ]
        batch = access_pb2.BatchCheckAccessRequest(parent=HOME, queries=questions)
        assert list((await here.access.BatchCheckAccess(batch, metadata=[auditor])).allowed) == [True, False]
        own = access_pb2.TestPermissionsRequest(parent=HOME, permissions=["engine.models.push", "engine.models.get"])
        assert list((await here.access.TestPermissions(own, metadata=[viewer])).permissions) == ["engine.models.get"]


async def test_a_denial_names_the_call_and_the_rule_only_to_those_who_may_know_it(security: Platform):
    async with directory(security) as here:
        viewer, auditor = await here.user("vic", "viewer"), await here.user("aud", "auditor")
        await within(1.0, lambda: here.explain("vic", "engine.models.get", by=auditor))
        for by, known in ((viewer, False), (auditor, True)):
            error = await refused(here.principal("eve", by=by), grpc.StatusCode.PERMISSION_DENIED)
            assert reason_of(error) == "PERMISSION_DENIED"
            metadata = metadata_of(error)
            assert len(metadata["decision"]) == 36
            assert ("rule" in metadata) is known


def metadata_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """The dynamic parts of an error."""
    from google.rpc import error_details_pb2, status_pb2

    status = status_pb2.Status()
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return dict(info.metadata)


async def test_the_operator_cannot_be_locked_out(security: Platform):
    async with directory(security) as here:
        operator = await security.token(tenant="system")
        name = "tenants/system/principals/operator"
        denial = binding_pb2.Binding(principal=name, role="tenants/system/roles/admin", effect="DENY")
        for call in (
            here.principals.DeletePrincipal(principal_pb2.DeletePrincipalRequest(name=name), metadata=[operator]),
            here.principals.UpdatePrincipal(
                principal_pb2.UpdatePrincipalRequest(
                    principal=principal_pb2.Principal(name=name, disabled=True), update_mask={"paths": ["disabled"]}
                ),
                metadata=[operator],
            ),
            here.bindings.DeleteBinding(
                binding_pb2.DeleteBindingRequest(name="tenants/system/bindings/operator"), metadata=[operator]
            ),
            here.bindings.CreateBinding(
                binding_pb2.CreateBindingRequest(parent="tenants/system", binding_id="no", binding=denial),
                metadata=[operator],
            ),
            here.tenants.DeleteTenant(tenant_pb2.DeleteTenantRequest(name="tenants/system"), metadata=[operator]),
        ):
            await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_BUILT_IN")
