"""Integration as its callers reach it: fetches for the orchestrator only, runs that wait for a system that is busy."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc, fetch_pb2, fetch_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc
from tiation.security.v1 import record_pb2, record_pb2_grpc

from mesh.assertion import sign
from mesh.channel import ASSERTION_HEADER
from mesh.config import IntegrationSettings
from mesh.identity import Requester, spiffe_id
from security.app import issue_svid
from tests.fakes.answers import reason_of, refused
from tests.fakes.greeter import greeter
from tests.fakes.platform import platform, secure_channel
from tests.fakes.web import Reply, peer, reply

OPERATOR = "tenants/system/principals/operator"
SETTINGS = IntegrationSettings(allowed_hosts=("localhost",))
GET = {"parent": "tenants/default", "method": "GET"}


@pytest.fixture
async def made(tmp_path):
    async with platform(tmp_path, ("security", "integration"), integration=SETTINGS) as started:
        yield started


@dataclass
class Fetching:
    """A service's side of FetchService, acting for somebody."""

    stub: Any
    metadata: tuple[tuple[str, str], ...]

    async def fetch(self, **fields):
        given = GET | fields
        body = given.pop("body", None)
        request = fetch_pb2.FetchRequest(**given)
        if body is not None:
            json_format.ParseDict(body, request.body)
        return await self.stub.Fetch(request, metadata=self.metadata)

    async def call(self, arguments=None, **fields):
        request = fetch_pb2.CallGrpcRequest(parent="tenants/default", service="test.Greeter", **fields)
        json_format.ParseDict(arguments or {}, request.arguments)
        return json_format.MessageToDict((await self.stub.CallGrpc(request, metadata=self.metadata)).result)


@asynccontextmanager
async def fetching(made, *, tenant="default", subject=OPERATOR, workload="orchestrator"):
    document = issue_svid(made.home, made.settings, workload)
    agent = f"tenants/{tenant}/agents/a"
    word = sign(
        document["private_key"].encode(), Requester(tenant, subject, agent, f"{agent}/runs/r", ""),
        issuer=spiffe_id("tiation.local", workload), audience="integration", now=time.time(),
    )  # fmt: skip
    async with secure_channel(made.address("integration"), "integration", document) as channel:
        yield Fetching(fetch_pb2_grpc.FetchServiceStub(channel), ((ASSERTION_HEADER, word),))


async def test_a_fetch_sends_one_request_and_returns_what_was_answered(made):
    async with peer(lambda asked: reply({"got": asked.json}, 201, x_shop="one")) as shop, fetching(made) as outside:
        answer = await outside.fetch(
            method="post", uri=f"{shop.url}/a?x=1", query={"y": "2 3"}, headers={"X-Key": "k"}, body={"n": 5},
            effect_key="runs/r/1",
        )  # fmt: skip
        assert (answer.status, answer.headers["x-shop"]) == (201, "one")
        assert json_format.MessageToDict(answer.body) == {"got": {"n": 5}}
        asked = shop.asked[0]
        assert (asked.method, asked.query) == ("POST", {"x": "1", "y": "2 3"})
        assert (asked.headers["x-key"], asked.headers["idempotency-key"]) == ("k", "runs/r/1")
        again = await outside.fetch(
            method="POST", uri=f"{shop.url}/a?x=1", query={"y": "2 3"}, body={"n": 5}, effect_key="runs/r/1"
        )
        assert again == answer
        assert len(shop.asked) == 1


async def test_a_fetch_of_nothing_has_no_body(made):
    async with peer(lambda _: Reply(204)) as shop, fetching(made) as outside:
        answer = await outside.fetch(uri=shop.url)
        assert answer.status == 204
        assert not answer.HasField("body")


async def test_a_fetch_whose_outcome_is_not_known_is_not_repeated(made):
    async with peer(lambda _: Reply(raw=[b""])) as shop, fetching(made) as outside:
        for _ in range(2):
            call = outside.fetch(method="POST", uri=shop.url, body={}, effect_key="k")
            await refused(call, grpc.StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
        assert len(shop.asked) == 1
        await refused(outside.fetch(uri=shop.url), grpc.StatusCode.UNAVAILABLE, "SYSTEM_UNAVAILABLE")


async def test_a_fetch_says_when_a_busy_server_takes_requests_again(made):
    async with peer(lambda _: reply("", 429, retry_after="30")) as shop, fetching(made) as outside:
        await refused(outside.fetch(uri=shop.url), grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")


@pytest.mark.parametrize(
    "uri",
    ["http://127.0.0.1:8080/", "http://169.254.169.254/", "http://[::1]/", "http://10.0.0.1/", "http://0x7f.1/", "x"],
)
async def test_a_fetch_to_a_forbidden_place_is_refused(made, uri):
    async with fetching(made) as outside:
        error = await refused(outside.fetch(uri=uri), grpc.StatusCode.INVALID_ARGUMENT)
        assert reason_of(error) == "LOCATION_FORBIDDEN"


async def test_fetches_are_for_the_orchestrator_on_behalf_of_who_may(made):
    async with peer(lambda _: reply("inside")) as shop:
        async with fetching(made, workload="gateway") as gateway:
            await refused(gateway.fetch(uri=shop.url), grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
        async with fetching(made, subject="tenants/default/principals/nobody") as nobody:
            await refused(nobody.fetch(uri=shop.url), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        async with fetching(made, tenant="other") as other:
            await refused(other.fetch(uri=shop.url), grpc.StatusCode.NOT_FOUND)
        async with fetching(made) as outside:
            await refused(outside.fetch(method="TRACE", uri=shop.url), grpc.StatusCode.INVALID_ARGUMENT)
        assert not shop.asked


# gRPC.


async def test_a_grpc_server_is_called_by_its_own_description(made):
    async with greeter() as target, fetching(made) as outside:
        asked = {"name": "Ada", "count": 2, "tags": ["x"]}
        said = await outside.call(asked, target=target, plaintext=True, method="Greet")
        assert said == {"text": "Hello Ada", "count": "2", "tags": ["x"], "at": "1970-01-01T00:00:01Z"}


async def test_what_a_grpc_server_cannot_do_is_said(made):
    async with greeter() as target, fetching(made) as outside:
        for arguments, method, code, words in (
            ({"name": "Ada"}, "Nope", grpc.StatusCode.FAILED_PRECONDITION, "it has Greet, Fail, Limit, Watch"),
            ({"nme": "Ada"}, "Greet", grpc.StatusCode.FAILED_PRECONDITION, 'no field named "nme"'),
            ({}, "Watch", grpc.StatusCode.FAILED_PRECONDITION, "streams"),
            ({}, "Fail", grpc.StatusCode.NOT_FOUND, "NOT_FOUND: no such greeting"),
            ({}, "Limit", grpc.StatusCode.RESOURCE_EXHAUSTED, "too many"),
        ):
            call = outside.call(arguments, target=target, plaintext=True, method=method)
            error = await refused(call, code)
            assert words in error.details()
    async with fetching(made) as outside:
        gone = outside.call({}, target=target, plaintext=True, method="Greet")
        await refused(gone, grpc.StatusCode.UNAVAILABLE, "SYSTEM_UNAVAILABLE")


async def test_a_grpc_effect_happens_once(made):
    async with greeter() as target, fetching(made) as outside:
        asked = {"target": target, "plaintext": True, "method": "Greet", "effect_key": "k"}
        assert await outside.call({"name": "a"}, **asked) == await outside.call({"name": "a"}, **asked)
        await refused(outside.call({"name": "b"}, **asked), grpc.StatusCode.ALREADY_EXISTS, "EFFECT_KEY_REUSED")


async def test_a_grpc_server_without_reflection_is_said_to_lack_it(made):
    async with greeter(reflected=False) as target, fetching(made) as outside:
        call = outside.call({}, target=target, plaintext=True, method="Greet")
        error = await refused(call, grpc.StatusCode.FAILED_PRECONDITION)
        assert "does not describe itself" in error.details()


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1:9000", "169.254.169.254:80", "localhost", "localhost:22", "a@localhost:443", "unix:/x", "0x7f.1:443"],
)
async def test_a_grpc_call_to_a_forbidden_place_is_refused(made, target):
    async with fetching(made) as outside:
        call = outside.call({}, target=target, plaintext=True, method="Greet")
        await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "LOCATION_FORBIDDEN")


# Connections and runs.


async def test_an_effect_leaves_one_record_with_all_the_time_that_it_took(made):
    async def slowly(_):
        await asyncio.sleep(0.5)
        return reply("done")

    metadata = [await made.token()]
    async with peer(slowly) as shop, made.channel("integration") as channel:
        stub = connection_pb2_grpc.ConnectionServiceStub(channel)
        operation = {"operationId": "pay", "spec": {"method": "POST", "path": "/pay", "body": {}}}
        wanted = {"connector": "http", "config": {"base_url": shop.url}, "operations": [operation]}
        connection = json_format.ParseDict(wanted, connection_pb2.Connection())
        creation = connection_pb2.CreateConnectionRequest(
            parent="tenants/default", connection_id="shop", connection=connection
        )
        await stub.CreateConnection(creation, metadata=metadata)
        asked = connection_pb2.InvokeRequest(
            name="tenants/default/connections/shop", operation_id="pay", effect_key="k"
        )
        first = await stub.Invoke(asked, metadata=metadata)
        again = await stub.Invoke(asked, metadata=metadata)
        assert (first.replayed, again.replayed) == (False, True)
        asked.effect_key, shop.handler = "other", lambda _: Reply(raw=[b""])
        await refused(stub.Invoke(asked, metadata=metadata), grpc.StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
    records = await _records(made, metadata, 3)
    assert sorted((record.code, record.duration.ToTimedelta().total_seconds() >= 0.5) for record in records) == [
        (0, False), (0, True), (2, False),
    ]  # fmt: skip


async def _records(made, metadata, count):
    """The records of Invoke, once there are so many, and a moment later."""
    request = record_pb2.ListRecordsRequest(parent="tenants/default", page_size=1000, service="integration")
    async with made.channel("security") as channel, asyncio.timeout(20):
        stub = record_pb2_grpc.RecordServiceStub(channel)
        while True:
            await asyncio.sleep(0.5)
            answer = await stub.ListRecords(request, metadata=metadata)
            found = [record.call for record in answer.records if record.call.method.endswith("/Invoke")]
            if len(found) >= count:
                return found


FLOW = """
document: {dsl: 1.0.0, namespace: t, name: a}
do:
  - order:
      call: connect
      with: {connection: shop, operation: order, input: {id: 7}}
"""


async def test_a_run_waits_for_a_system_that_is_busy_and_goes_on(tmp_path):
    answers = iter([reply("", 429, retry_after="4")])
    async with (
        peer(lambda _: next(answers, reply({"id": "o-1"}))) as shop,
        platform(tmp_path, ("security", "integration", "orchestrator"), integration=SETTINGS) as made,
    ):
        metadata = [await made.token()]
        async with made.channel("integration") as channel:
            stub = connection_pb2_grpc.ConnectionServiceStub(channel)
            wanted = json_format.ParseDict(
                {
                    "connector": "http",
                    "config": {"base_url": shop.url, "auth": {"kind": "bearer"}},
                    "credentials": {"token": "s3cret-token"},
                    "operations": [
                        {
                            "operationId": "order",
                            "effect": "UNSAFE",
                            "timeout": "57s",
                            "spec": {"method": "POST", "path": "/orders/{id}", "body": {"a": 1}},
                        }
                    ],
                },
                connection_pb2.Connection(),
            )
            creation = connection_pb2.CreateConnectionRequest(
                parent="tenants/default", connection_id="shop", connection=wanted
            )
            await stub.CreateConnection(creation, metadata=metadata)
            wanted.config["base_ulr"] = "x"
            bad = connection_pb2.CreateConnectionRequest(
                parent="tenants/default", connection_id="bad", connection=wanted
            )
            error = await refused(
                stub.CreateConnection(bad, metadata=metadata), grpc.StatusCode.INVALID_ARGUMENT, "OPERATION_INVALID"
            )
            assert "did you mean `base_url`" in error.details()
        async with made.channel("orchestrator") as channel:
            agents, runs = agent_pb2_grpc.AgentServiceStub(channel), run_pb2_grpc.RunServiceStub(channel)
            await agents.CreateAgent(
                agent_pb2.CreateAgentRequest(parent="tenants/default", agent_id="a", agent=agent_pb2.Agent(flow=FLOW)),
                metadata=metadata,
            )
            began = time.monotonic()
            run = await runs.CreateRun(
                run_pb2.CreateRunRequest(parent="tenants/default/agents/a", run=run_pb2.Run()), metadata=metadata
            )
            async with asyncio.timeout(40):
                while not run.HasField("end_time"):
                    await asyncio.sleep(0.1)
                    run = await runs.GetRun(run_pb2.GetRunRequest(name=run.name), metadata=metadata)
        assert run.state == run_pb2.Run.SUCCEEDED, run
        assert json_format.MessageToDict(run.output) == {"id": "o-1"}
        assert time.monotonic() - began >= 3.5
        assert len(shop.asked) == 2
        assert {asked.headers["authorization"] for asked in shop.asked} == {"Bearer s3cret-token"}
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"s3cret-token" not in kept
