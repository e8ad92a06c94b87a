"""Names that are never given again: what is told to whoever asks for one."""

from __future__ import annotations

import grpc
from tiation.security.v1 import tenant_pb2, tenant_pb2_grpc

from tests.fakes.answers import refused
from tests.fakes.platform import Platform


async def test_the_name_of_a_deleted_tenant_is_said_to_be_used(security: Platform):
    metadata = [await security.token(tenant="system")]
    async with security.channel("security") as channel:
        stub = tenant_pb2_grpc.TenantServiceStub(channel)
        request = tenant_pb2.CreateTenantRequest(tenant_id="acme", tenant=tenant_pb2.Tenant(display_name="Acme"))
        made = await stub.CreateTenant(request, metadata=metadata)
        taken = tenant_pb2.CreateTenantRequest(tenant_id="acme", tenant=tenant_pb2.Tenant(display_name="Other"))
        error = await refused(
            stub.CreateTenant(taken, metadata=metadata), grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS"
        )
        assert "exists already with other content" in error.details()
        await stub.DeleteTenant(tenant_pb2.DeleteTenantRequest(name=made.name), metadata=metadata)
        for again in (request, taken):
            error = await refused(
                stub.CreateTenant(again, metadata=metadata), grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_NAME_USED"
            )
            assert error.details() == "tenants/acme was deleted, and its name is never given again; choose another id"
