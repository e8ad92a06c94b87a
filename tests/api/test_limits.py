"""How much may be asked for: refused clearly, counted for each and for the tenant, never for a run's own calls."""

from __future__ import annotations

import asyncio
import time

import grpc
from google.rpc import error_details_pb2, status_pb2
from tiation.security.v1 import principal_pb2, record_pb2, record_pb2_grpc, tenant_pb2

from mesh.config import LimitSettings
from tests.fakes.answers import refused, within
from tests.fakes.directory import HOME, Directory, directory, full
from tests.fakes.platform import Platform, platform

GET = tenant_pb2.GetTenantRequest(name=HOME)
EXHAUSTED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")


async def limit(here: Directory, name: str, **limits: int) -> None:
    changed = principal_pb2.Principal(name=full("principals", name), limits=limits)
    request = principal_pb2.UpdatePrincipalRequest(principal=changed, update_mask={"paths": ["limits"]})
    await here.principals.UpdatePrincipal(request, metadata=[here.operator])


async def until_limited(here: Directory, by: tuple[str, str], whose: str = "") -> grpc.aio.AioRpcError:
    """Call as fast as possible until a call is refused, by the limit of somebody if one is named."""
    async with asyncio.timeout(5):
        while True:
            try:
                await here.tenants.GetTenant(GET, metadata=[by])
            except grpc.aio.AioRpcError as error:
                if error.details().startswith(whose):
                    return error
                await asyncio.sleep(0.005)


async def test_a_principal_that_asks_too_much_is_told_when_to_come_back_and_is_served_then(security: Platform):
    async with directory(security) as here:
        ada, bob = await here.user("ada", "viewer"), await here.user("bob", "viewer")
        await within(2.0, lambda: here.tenants.GetTenant(GET, metadata=[bob]))
        await limit(here, "ada", requests_per_second=2, burst=3)
        error = await until_limited(here, ada)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(error.trailing_metadata())
        assert trailers["retry-after"] == "1"
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        kinds = [detail.type_url.rsplit(".", 1)[1] for detail in status.details]
        assert kinds == ["ErrorInfo", "QuotaFailure", "RetryInfo"]
        quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
        status.details[1].Unpack(quota)
        status.details[2].Unpack(retry)
        assert quota.violations[0].subject == full("principals", "ada")
        assert 0 < retry.retry_delay.ToMilliseconds() <= 500
        await here.tenants.GetTenant(GET, metadata=[bob])
        await asyncio.sleep(retry.retry_delay.ToMilliseconds() / 1000 + 0.05)
        await here.tenants.GetTenant(GET, metadata=[ada])


async def test_a_refused_call_is_recorded(security: Platform):
    async with directory(security) as here:
        ada = await here.user("ada", "viewer")
        await limit(here, "ada", requests_per_second=1, burst=1)
        await until_limited(here, ada)
        records = record_pb2_grpc.RecordServiceStub(here.channel)
        request = record_pb2.ListRecordsRequest(parent=HOME, outcome="RESOURCE_EXHAUSTED")
        async with asyncio.timeout(5):
            while not (found := (await records.ListRecords(request, metadata=[here.operator])).records):
                await asyncio.sleep(0.05)
        assert found[0].call.reason == "RATE_LIMITED"
        assert found[0].call.subject == full("principals", "ada")


async def test_the_rate_holds_in_the_long_run(security: Platform):
    async with directory(security) as here:
        ada = await here.user("ada", "viewer")
        await limit(here, "ada", requests_per_second=20, burst=1)
        await until_limited(here, ada)
        served, began = 0, time.monotonic()
        while time.monotonic() - began < 1.5:
            try:
                await here.tenants.GetTenant(GET, metadata=[ada])
                served += 1
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.005)
        assert 5 <= served <= 20 * (time.monotonic() - began) + 2


async def test_a_tenants_principals_share_its_limit_and_the_tenant_says_what_each_may(security: Platform):
    async with directory(security) as here:
        ada, bob = await here.user("ada", "viewer"), await here.user("bob", "viewer")
        platforms = await security.token(tenant="system")
        await within(2.0, lambda: here.tenants.GetTenant(GET, metadata=[bob]))

        async def set_limits(**limits: object) -> None:
            changed = tenant_pb2.Tenant(name=HOME, **limits)
            request = tenant_pb2.UpdateTenantRequest(tenant=changed, update_mask={"paths": list(limits)})
            await here.tenants.UpdateTenant(request, metadata=[platforms])

        await set_limits(principal_limits={"requests_per_second": 1, "burst": 1})
        await until_limited(here, ada)
        await here.tenants.GetTenant(GET, metadata=[bob])
        await set_limits(principal_limits={}, limits={"requests_per_second": 1, "burst": 1})
        await until_limited(here, bob, HOME + " may")
        await refused(here.tenants.GetTenant(GET, metadata=[ada]), *EXHAUSTED)


async def test_what_neither_principal_nor_tenant_says_the_settings_say(tmp_path):
    async with platform(tmp_path, limits=LimitSettings(requests_per_second=2, burst=2)) as made:
        by = await made.token()
        async with directory(made) as here:
            await until_limited(here, by)
