"""Security's own resources, over mTLS, as the gateway calls them: full lives, repeated requests, rules between them."""

from __future__ import annotations

import uuid

import grpc
import grpc.aio
from google.protobuf import field_mask_pb2
from grpc_status import rpc_status
from tiation.security.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    binding_pb2,
    binding_pb2_grpc,
    principal_pb2,
    principal_pb2_grpc,
    role_pb2,
    role_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
)

from tests.fakes.answers import denied_within, refused, within
from tests.fakes.platform import Platform


async def add_principal(channel, authorization, principal_id="ada", tenant="default"):
    stub = principal_pb2_grpc.PrincipalServiceStub(channel)
    request = principal_pb2.CreatePrincipalRequest(
        parent=f"tenants/{tenant}", principal_id=principal_id, principal=principal_pb2.Principal(display_name="Ada")
    )
    return await stub.CreatePrincipal(request, metadata=[authorization])


async def test_a_principal_is_created_changed_listed_and_deleted(security: Platform):
    authorization = await security.token()
    async with security.channel("security") as channel:
        stub = principal_pb2_grpc.PrincipalServiceStub(channel)
        made = await add_principal(channel, authorization)
        assert made.name == "tenants/default/principals/ada"
        assert (
            await stub.GetPrincipal(principal_pb2.GetPrincipalRequest(name=made.name), metadata=[authorization]) == made
        )
        changed = await stub.UpdatePrincipal(
            principal_pb2.UpdatePrincipalRequest(
                principal=principal_pb2.Principal(name=made.name, etag=made.etag, display_name="Ada L."),
                update_mask=field_mask_pb2.FieldMask(paths=["display_name"]),
            ),
            metadata=[authorization],
        )
        assert changed.display_name == "Ada L."
        assert changed.etag != made.etag
        stale = principal_pb2.DeletePrincipalRequest(name=made.name, etag=made.etag)
        await refused(stub.DeletePrincipal(stale, metadata=[authorization]), grpc.StatusCode.ABORTED, "ETAG_STALE")
        listed = await stub.ListPrincipals(
            principal_pb2.ListPrincipalsRequest(parent="tenants/default"), metadata=[authorization]
        )
        assert [principal.name for principal in listed.principals] == [made.name]
        await stub.DeletePrincipal(principal_pb2.DeletePrincipalRequest(name=made.name), metadata=[authorization])
        gone = stub.GetPrincipal(principal_pb2.GetPrincipalRequest(name=made.name), metadata=[authorization])
        await refused(gone, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_a_repeated_creation_answers_alike_and_another_body_is_refused(security: Platform):
    authorization = await security.token()
    async with security.channel("security") as channel:
        stub = principal_pb2_grpc.PrincipalServiceStub(channel)
        request = principal_pb2.CreatePrincipalRequest(
            parent="tenants/default",
            principal_id="ada",
            principal=principal_pb2.Principal(display_name="Ada"),
            request_id=str(uuid.uuid4()),
        )
        made = await stub.CreatePrincipal(request, metadata=[authorization])
        assert await stub.CreatePrincipal(request, metadata=[authorization]) == made
        request.principal.display_name = "Somebody else"
        await refused(
            stub.CreatePrincipal(request, metadata=[authorization]),
            grpc.StatusCode.ALREADY_EXISTS,
            "RESOURCE_ALREADY_EXISTS",
        )
        request.principal_id, request.request_id = "ada", ""
        await refused(stub.CreatePrincipal(request, metadata=[authorization]), grpc.StatusCode.ALREADY_EXISTS)


async def test_lists_page_and_refuse_tokens_of_other_lists(security: Platform):
    authorization = await security.token()
    async with security.channel("security") as channel:
        stub = principal_pb2_grpc.PrincipalServiceStub(channel)
        for number in range(5):
            await add_principal(channel, authorization, f"p{number}")
        names, token, other = [], "", ""
        for _ in range(3):
            page = await stub.ListPrincipals(
                principal_pb2.ListPrincipalsRequest(parent="tenants/default", page_size=2, page_token=token),
                metadata=[authorization],
            )
            names += [principal.name.rsplit("/", 1)[1] for principal in page.principals]
            token = page.next_page_token
            if token:
                other = token
        assert names == ["p0", "p1", "p2", "p3", "p4"]
        assert token == ""
        bindings = binding_pb2_grpc.BindingServiceStub(channel)
        await refused(
            bindings.ListBindings(
                binding_pb2.ListBindingsRequest(parent="tenants/default", page_token=other), metadata=[authorization]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        await refused(
            stub.ListPrincipals(
                principal_pb2.ListPrincipalsRequest(parent="tenants/default", page_size=-1), metadata=[authorization]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        )


async def test_an_api_key_gives_its_principal_what_is_bound_to_it_and_no_more(security: Platform):
    operator = await security.token()
    async with security.channel("security") as channel:
        principal = await add_principal(channel, operator)
        keys = api_key_pb2_grpc.ApiKeyServiceStub(channel)
        key = await keys.CreateApiKey(
            api_key_pb2.CreateApiKeyRequest(
                parent="tenants/default", api_key_id="k1", api_key=api_key_pb2.ApiKey(principal=principal.name)
            ),
            metadata=[operator],
        )
        shown = await keys.GetApiKey(api_key_pb2.GetApiKeyRequest(name=key.name), metadata=[operator])
        assert key.key_string
        assert not shown.key_string
        ada = await security.token(key=key.key_string)
        principals = principal_pb2_grpc.PrincipalServiceStub(channel)
        look = principal_pb2.ListPrincipalsRequest(parent="tenants/default")
        await refused(
            principals.ListPrincipals(look, metadata=[ada]), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"
        )
        bindings = binding_pb2_grpc.BindingServiceStub(channel)
        bound = await bindings.CreateBinding(
            binding_pb2.CreateBindingRequest(
                parent="tenants/default",
                binding_id="ada-audits",
                binding=binding_pb2.Binding(principal=principal.name, role="tenants/system/roles/auditor"),
            ),
            metadata=[operator],
        )
        assert bound.resource == "tenants/default"
        await within(1.0, lambda: principals.ListPrincipals(look, metadata=[ada]))
        await refused(add_principal(channel, ada, "eve"), grpc.StatusCode.PERMISSION_DENIED)
        await principals.DeletePrincipal(principal_pb2.DeletePrincipalRequest(name=principal.name), metadata=[operator])
        await denied_within(1.0, lambda: principals.ListPrincipals(look, metadata=[ada]))
        await refused(security.token(key=key.key_string), grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID")


async def test_a_token_limited_to_a_role_does_less_than_its_principal(security: Platform):
    viewer = await security.token(role="viewer")
    async with security.channel("security") as channel:
        tenants = tenant_pb2_grpc.TenantServiceStub(channel)
        await tenants.GetTenant(tenant_pb2.GetTenantRequest(name="tenants/default"), metadata=[viewer])
        await refused(add_principal(channel, viewer), grpc.StatusCode.PERMISSION_DENIED)


async def test_only_the_platforms_own_may_make_tenants_and_a_deleted_one_is_gone_for_good(security: Platform):
    operator = await security.token(tenant="system")
    async with security.channel("security") as channel:
        stub = tenant_pb2_grpc.TenantServiceStub(channel)
        request = tenant_pb2.CreateTenantRequest(tenant_id="acme", tenant=tenant_pb2.Tenant(display_name="Acme"))
        await stub.CreateTenant(request, metadata=[operator])
        inside = await security.token(tenant="acme")
        principal = await add_principal(channel, inside, tenant="acme")
        assert principal.name == "tenants/acme/principals/ada"
        await refused(
            binding_pb2_grpc.BindingServiceStub(channel).CreateBinding(
                binding_pb2.CreateBindingRequest(
                    parent="tenants/acme",
                    binding_id="too-much",
                    binding=binding_pb2.Binding(
                        principal=principal.name, role="tenants/system/roles/admin", resource="tenants"
                    ),
                ),
                metadata=[inside],
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        listed = await stub.ListTenants(tenant_pb2.ListTenantsRequest(), metadata=[operator])
        assert [tenant.name for tenant in listed.tenants] == ["tenants/acme", "tenants/default", "tenants/system"]
        for name, reason in (("tenants/default", "RESOURCE_BUILT_IN"), ("tenants/system", "RESOURCE_BUILT_IN")):
            deletion = stub.DeleteTenant(tenant_pb2.DeleteTenantRequest(name=name), metadata=[operator])
            await refused(deletion, grpc.StatusCode.FAILED_PRECONDITION, reason)
        await stub.DeleteTenant(tenant_pb2.DeleteTenantRequest(name="tenants/acme"), metadata=[operator])
        await refused(stub.CreateTenant(request, metadata=[operator]), grpc.StatusCode.ALREADY_EXISTS)
        await refused(security.token(tenant="acme"), grpc.StatusCode.UNAUTHENTICATED)


async def test_the_built_in_roles_are_readable_from_every_tenant(security: Platform):
    viewer = await security.token(role="viewer")
    async with security.channel("security") as channel:
        stub = role_pb2_grpc.RoleServiceStub(channel)
        roles = await stub.ListRoles(role_pb2.ListRolesRequest(parent="tenants/system"), metadata=[viewer])
        assert [role.name.rsplit("/", 1)[1] for role in roles.roles] == [
            "admin", "auditor", "developer", "operator", "viewer",
        ]  # fmt: skip


async def test_another_tenants_name_and_one_that_never_was_are_answered_alike(security: Platform):
    authorization = await security.token()
    async with security.channel("security") as channel:
        stub = tenant_pb2_grpc.TenantServiceStub(channel)
        answers = set()
        for name in ("tenants/system", "tenants/never-was"):
            error = await refused(
                stub.GetTenant(tenant_pb2.GetTenantRequest(name=name), metadata=[authorization]),
                grpc.StatusCode.NOT_FOUND,
            )
            answers.add(rpc_status.from_call(_Call(error)).SerializeToString())
        assert len(answers) == 1


class _Call:
    """An error in the form that grpc_status reads."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    def trailing_metadata(self):
        return self._error.trailing_metadata()

    def code(self):
        return self._error.code()

    def details(self):
        return self._error.details()
