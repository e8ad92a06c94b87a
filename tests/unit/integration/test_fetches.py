"""`call: http` and `call: grpc` as integration serves them: what is known of an effect after each kind of answer."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf import json_format
from tiation.integration.v1 import fetch_pb2

from integration.adapters.fetches import OutsideFetches
from integration.adapters.grpc_client import GrpcClient
from integration.adapters.http_client import HttpClient
from integration.effects import EffectLog
from integration.errors import CallRefusedError, OutcomeUnknownError, RateLimitedError
from integration.servicers.fetches import FetchServicer
from integration.store import IntegrationStore
from mesh.errors import Code
from tests.fakes.greeter import greeter
from tests.fakes.web import peer, reply
from tests.unit.integration.conftest import LOCAL

MAX_BYTES = 1024 * 1024


@pytest.fixture
async def outside(database):
    client = HttpClient(LOCAL)
    fetches = OutsideFetches(client, GrpcClient(LOCAL, MAX_BYTES), MAX_BYTES)
    yield FetchServicer(fetches, EffectLog(database, IntegrationStore()))
    await client.close()


async def call(outside, target, method, **arguments):
    request = fetch_pb2.CallGrpcRequest(
        parent="tenants/default", target=target, plaintext=True, service="test.Greeter", method=method, effect_key="k"
    )
    json_format.ParseDict(arguments, request.arguments)
    return json_format.MessageToDict((await outside.CallGrpc(request, None)).result)


async def post(outside, url):
    request = fetch_pb2.FetchRequest(parent="tenants/default", method="POST", uri=url, effect_key="k")
    return (await outside.Fetch(request, None)).status


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 502, 503])
async def test_an_answer_that_it_failed_is_not_kept_for_ever(outside, status):
    """So that a run that is redriven goes on once the server was mended, under the key that the server knows."""
    statuses = iter([status, status, 200, 500])
    async with peer(lambda _: reply("", next(statuses))) as shop:
        assert [await post(outside, shop.url) for _ in range(4)] == [status, status, 200, 200]
        assert [asked.headers["idempotency-key"] for asked in shop.asked] == ["k"] * 3


async def test_all_who_ask_at_once_get_the_one_answer_that_it_failed(outside):
    async def slowly(_):
        await asyncio.sleep(0.3)
        return reply("", 500)

    async with peer(slowly) as shop:
        assert await asyncio.gather(*(post(outside, shop.url) for _ in range(3))) == [500] * 3
        assert len(shop.asked) == 1


@pytest.mark.parametrize(
    "code",
    [
        Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED,
        Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION, Code.OUT_OF_RANGE, Code.UNIMPLEMENTED,
    ],
)  # fmt: skip
async def test_a_grpc_call_that_was_refused_is_known_not_to_have_happened(outside, code):
    async with greeter() as target:
        with pytest.raises(CallRefusedError, match=f"answers {code.name}") as caught:
            await call(outside, target, "Fail", name=code.name)
        assert caught.value.code is code  # a flow catches its status
        assert caught.value.outcome_known
        assert (await call(outside, target, "Greet", name="Ada"))["text"] == "Hello Ada"


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED", "DEADLINE_EXCEEDED", "CANCELLED"])
async def test_a_grpc_call_that_broke_off_may_have_happened(outside, code):
    async with greeter() as target:
        for _ in range(2):
            with pytest.raises(OutcomeUnknownError):
                await call(outside, target, "Fail", name=code)


async def test_a_grpc_server_that_is_busy_is_left_alone_for_a_day_at_most(outside):
    async with greeter() as target:
        for said_s, heeded_s in ((9, 9.0), (300_000_000_000, 86_400.0)):
            with pytest.raises(RateLimitedError) as caught:
                await call(outside, target, "Limit", count=said_s)
            assert caught.value.retry_after_s == heeded_s
