"""Security's own resources, over mTLS, as the gateway calls them."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from tiation.security.v1 import principal_pb2, principal_pb2_grpc

from tests.fakes.platform import platform


async def test_a_principal_lives_a_full_life(tmp_path):
    async with platform(tmp_path) as here:
        authorization = await here.token()
        async with here.channel("security") as channel:
            stub = principal_pb2_grpc.PrincipalServiceStub(channel)
            request = principal_pb2.CreatePrincipalRequest(
                parent="tenants/default", principal_id="ada", principal=principal_pb2.Principal(display_name="Ada")
            )
            made = await stub.CreatePrincipal(request, metadata=[authorization])
            assert made.name == "tenants/default/principals/ada"
            again = await stub.CreatePrincipal(request, metadata=[authorization])
            assert again == made
            got = await stub.GetPrincipal(
                principal_pb2.GetPrincipalRequest(name=made.name), metadata=[authorization]
            )
            assert got == made
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetPrincipal(principal_pb2.GetPrincipalRequest(name="tenants/other/principals/ada"), metadata=[authorization])
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
