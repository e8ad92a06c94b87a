"""TenantService."""

from __future__ import annotations

from google.protobuf import empty_pb2
from tiation.security.v1 import tenant_pb2 as pb
from tiation.security.v1 import tenant_pb2_grpc

from mesh.call import Context
from mesh.identity import SYSTEM_TENANT, current_caller
from mesh.pagination import Pages
from mesh.policy import PLATFORM
from mesh.policy_messages import limits_message, read_limits
from mesh.resource import tenant_of
from mesh.shelf import Shelf
from security.directory import Directory
from security.entries import Tenant

__all__ = ["TenantServicer"]

_CHANGEABLE = ("display_name", "limits", "principal_limits", "labels")


class TenantServicer(tenant_pb2_grpc.TenantServiceServicer):
    """Keeps tenants.

    Args:
        directory: the core.
        pages: makes and checks page tokens.
    """

    def __init__(self, directory: Directory, pages: Pages) -> None:
        self._shelf = Shelf[Tenant, pb.Tenant](directory, pages, Tenant, "", _show, _read, _CHANGEABLE)

    async def GetTenant(self, request: pb.GetTenantRequest, _: Context) -> pb.Tenant:
        """One tenant."""
        return await self._shelf.get(request.name)

    async def ListTenants(self, request: pb.ListTenantsRequest, _: Context) -> pb.ListTenantsResponse:
        """The tenants that the caller may see: all for the platform's own principals, else the caller's own."""
        caller = current_caller()
        if tenant_of(caller.subject) != SYSTEM_TENANT:
            return pb.ListTenantsResponse(tenants=[await self._shelf.get(f"{PLATFORM}/{caller.tenant}")])
        tenants, token = await self._shelf.list(PLATFORM, request)
        return pb.ListTenantsResponse(tenants=tenants, next_page_token=token)

    async def CreateTenant(self, request: pb.CreateTenantRequest, _: Context) -> pb.Tenant:
        """A new tenant."""
        name = self._shelf.name(PLATFORM, request.tenant_id)
        return self._shelf.message(await self._shelf.create(name, request.tenant, request))

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, _: Context) -> pb.Tenant:
        """A changed tenant."""
        return await self._shelf.update(request.tenant, request.update_mask)

    async def DeleteTenant(self, request: pb.DeleteTenantRequest, _: Context) -> empty_pb2.Empty:
        """One tenant less."""
        await self._shelf.delete(request.name, request.etag, forever=True)
        return empty_pb2.Empty()


def _show(body: Tenant) -> pb.Tenant:
    return pb.Tenant(
        display_name=body.display_name,
        limits=limits_message(body.limits),
        principal_limits=limits_message(body.principal_limits),
    )


def _read(message: pb.Tenant) -> Tenant:
    return Tenant(
        message.display_name,
        read_limits(message.limits) if message.HasField("limits") else None,
        read_limits(message.principal_limits) if message.HasField("principal_limits") else None,
    )
