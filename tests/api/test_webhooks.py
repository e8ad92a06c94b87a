"""Webhooks as senders and their owners reach them: what is signed starts one run, everything else costs nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import standardwebhooks
from google.protobuf import json_format
from tiation.integration.v1 import webhook_pb2 as pb
from tiation.integration.v1 import webhook_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc
from tiation.security.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    binding_pb2,
    binding_pb2_grpc,
    principal_pb2,
    principal_pb2_grpc,
    record_pb2,
    record_pb2_grpc,
)

from mesh.errors import Code
from tests.fakes.answers import reason_of, refused, within
from tests.fakes.directory import directory
from tests.fakes.platform import platform

OPERATOR = "tenants/system/principals/operator"
AGENT = "tenants/default/agents/a"
HOOK = "tenants/default/webhooks/hook"
FLOW = """
document: {dsl: 1.0.0, namespace: t, name: a}
do:
  - echo:
      set: {got: "${ . }"}
"""
SECRET = "It's a Secret to Everybody"


@dataclass
class Side:
    """The owner's and the senders' side of a platform."""

    made: Any
    stub: Any
    runs: Any
    metadata: list[tuple[str, str]]

    async def create(self, webhook_id="hook", **fields):
        webhook = json_format.ParseDict({"agent": AGENT} | fields, pb.Webhook())
        request = pb.CreateWebhookRequest(parent="tenants/default", webhook_id=webhook_id, webhook=webhook)
        return await self.stub.CreateWebhook(request, metadata=self.metadata)

    async def update(self, paths, name=HOOK, **fields):
        webhook = json_format.ParseDict({"name": name} | fields, pb.Webhook())
        request = pb.UpdateWebhookRequest(webhook=webhook, update_mask={"paths": paths})
        return await self.stub.UpdateWebhook(request, metadata=self.metadata)

    async def send(self, headers, body, name=HOOK, content_type="application/json"):
        request = pb.ReceiveWebhookRequest(name=name)
        request.body.data, request.body.content_type = body, content_type
        return (await self.stub.ReceiveWebhook(request, metadata=list(headers.items()))).run

    async def ended(self, name):
        async with asyncio.timeout(30):
            while True:
                try:
                    run = await self.runs.GetRun(run_pb2.GetRunRequest(name=name), metadata=self.metadata)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.NOT_FOUND
                else:
                    if run.HasField("end_time"):
                        return run
                await asyncio.sleep(0.05)

    async def names(self):
        answer = await self.runs.ListRuns(run_pb2.ListRunsRequest(parent=AGENT), metadata=self.metadata)
        return {run.name for run in answer.runs}


@pytest.fixture
async def side(tmp_path):
    async with (
        platform(tmp_path, ("security", "integration", "orchestrator")) as made,
        made.channel("integration") as hooks,
        made.channel("orchestrator") as channel,
    ):
        metadata = [await made.token()]
        agent = agent_pb2.Agent(flow=FLOW)
        request = agent_pb2.CreateAgentRequest(parent="tenants/default", agent_id="a", agent=agent)
        await agent_pb2_grpc.AgentServiceStub(channel).CreateAgent(request, metadata=metadata)
        stub = webhook_pb2_grpc.WebhookServiceStub(hooks)
        yield Side(made, stub, run_pb2_grpc.RunServiceStub(channel), metadata)


def signed(secret, message_id, body, ago_s=0.0):
    moment = datetime.now(UTC) - timedelta(seconds=ago_s)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(message_id, moment, body.decode()),
    }


def github(body, secret=SECRET, **headers):
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}", **headers}


def output(run):
    return json_format.MessageToDict(run.output)


async def test_a_signed_request_starts_one_run_however_often_it_is_sent(side):
    hook = await side.create(input='{text: .body.text, kind: .headers["x-kind"]}')
    assert hook.generated_secret.startswith("whsec_")
    assert (hook.path, hook.requester) == (f"/v1/{HOOK}:receive", OPERATOR)
    body = b'{"text": "hello", "n": 9007199254740993}'
    headers = signed(hook.generated_secret, "msg_1", body) | {"x-kind": "greeting"}
    first = await side.send(headers, body)
    run = await side.ended(first)
    assert run.state == run_pb2.Run.SUCCEEDED, run
    assert output(run) == {"got": {"text": "hello", "kind": "greeting"}}
    assert (run.requester, run.labels["webhook"]) == (OPERATOR, "hook")
    again = signed(hook.generated_secret, "msg_1", body, ago_s=100) | {"x-kind": "other"}
    answers = await asyncio.gather(*(side.send(again, body) for _ in range(20)))
    assert set(answers) == {first}
    other = await side.send(signed(hook.generated_secret, "msg_2", body), body)
    await side.ended(other)
    assert await side.names() == {first, other}


async def test_many_repeats_at_once_are_one(side):
    hook = await side.create()
    headers = signed(hook.generated_secret, "msg_1", b"{}")
    answers = await asyncio.gather(*(side.send(headers, b"{}") for _ in range(30)))
    assert len(set(answers)) == 1
    await side.ended(answers[0])
    assert await side.names() == set(answers)


async def test_what_does_not_hold_is_refused_without_a_word_about_why(side):
    hook = await side.create()
    body = b'{"a": 1}'
    good = signed(hook.generated_secret, "msg_1", body)
    stale = signed(hook.generated_secret, "msg_1", body, ago_s=302)
    early = signed(hook.generated_secret, "msg_1", body, ago_s=-302)
    said = set()
    for headers, sent in (
        ({}, body), (good, b'{"a": 2}'), (stale, body), (early, body), (good | {"webhook-id": "msg_2"}, body),
        (signed("whsec_" + "A" * 44, "msg_1", body), body), (good | {"webhook-signature": "v1,"}, body),
    ):  # fmt: skip
        error = await refused(side.send(headers, sent), grpc.StatusCode.UNAUTHENTICATED, "SIGNATURE_INVALID")
        said.add((error.details(), dict(error.trailing_metadata())["grpc-status-details-bin"]))
    assert len(said) == 1
    assert await side.names() == set()


async def test_where_nothing_is_received_every_answer_is_the_same(side):
    hook = await side.create()
    body = b"{}"
    headers = signed(hook.generated_secret, "msg_1", body)
    said = set()
    await side.update(["disabled"], disabled=True)
    for name in (HOOK, "tenants/default/webhooks/none", "tenants/other/webhooks/hook"):
        error = await refused(side.send(headers, body, name), grpc.StatusCode.NOT_FOUND, "WEBHOOK_UNKNOWN")
        said.add((error.details(), dict(error.trailing_metadata())["grpc-status-details-bin"]))
    assert len(said) == 1
    await side.update(["disabled"])
    await side.ended(await side.send(headers, body))
    await side.stub.DeleteWebhook(pb.DeleteWebhookRequest(name=HOOK), metadata=side.metadata)
    await refused(side.send(headers, body), grpc.StatusCode.NOT_FOUND, "WEBHOOK_UNKNOWN")


async def test_a_github_like_sender_is_told_apart_by_the_header_of_choice_or_by_the_body(side):
    signature = {"scheme": "HMAC_SHA256_HEX", "header": "X-Hub-Signature-256", "prefix": "sha256="}
    hook = await side.create(signature=signature, secrets=[SECRET])
    assert hook.generated_secret == ""
    assert not hook.secrets
    first = await side.send(github(b'{"ref": "main"}'), b'{"ref": "main"}')
    assert await side.send(github(b'{"ref": "main"}'), b'{"ref": "main"}') == first
    assert await side.send(github(b'{"ref": "dev"}'), b'{"ref": "dev"}') != first
    await side.update(["dedupe"], dedupe='.headers["x-github-delivery"]')
    one = await side.send(github(b"{}", **{"x-github-delivery": "d-1"}), b"{}")
    assert await side.send(github(b"{}", **{"x-github-delivery": "d-1"}), b"{}") == one
    assert await side.send(github(b"{}", **{"x-github-delivery": "d-2"}), b"{}") != one
    error = await refused(side.send(github(b"{}"), b"{}"), grpc.StatusCode.INVALID_ARGUMENT, "DELIVERY_INVALID")
    assert "dedupe" in error.details()


async def test_a_form_a_text_and_bytes_become_values(side):
    signature = {"scheme": "HMAC_SHA256_HEX", "header": "x-signature"}
    await side.create(signature=signature, secrets=[SECRET])
    for body, content_type, value in (
        (
            b"command=%2Fask&text=two+words",
            "application/x-www-form-urlencoded",
            {"command": "/ask", "text": "two words"},
        ),
        ("grün".encode(), "text/plain; charset=utf-8", "grün"),
        (b"\xff\x00", "application/octet-stream", "/wA="),
        (b'{"id": 9007199254740993}', "application/vnd.github+json", {"id": "9007199254740993"}),
        (b"", "", None),
    ):
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        run = await side.ended(await side.send({"x-signature": digest}, body, content_type=content_type))
        assert output(run) == {"got": value}
    for body in (b'{"id": ', b"[" * 100_000, b"\xff", json.dumps({"x": "y" * 300_000}).encode()):
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        await refused(side.send({"x-signature": digest}, body), grpc.StatusCode.INVALID_ARGUMENT, "DELIVERY_INVALID")


async def test_secrets_are_never_shown_again_and_are_changed_with_both_good(side, tmp_path):
    hook = await side.create()
    got = await side.stub.GetWebhook(pb.GetWebhookRequest(name=HOOK), metadata=side.metadata)
    listed = await side.stub.ListWebhooks(pb.ListWebhooksRequest(parent="tenants/default"), metadata=side.metadata)
    again = await side.create()
    for shown in (got, listed.webhooks[0], again):
        assert not shown.secrets
        assert not shown.generated_secret
    new = "whsec_" + "B" * 44
    await side.update(["secrets"], secrets=[new, hook.generated_secret])
    for secret, message_id in ((new, "msg_1"), (hook.generated_secret, "msg_2")):
        await side.send(signed(secret, message_id, b"{}"), b"{}")
    await side.update(["secrets"], secrets=[new])
    await refused(side.send(signed(hook.generated_secret, "msg_3", b"{}"), b"{}"), grpc.StatusCode.UNAUTHENTICATED)
    await refused(side.update(["secrets"]), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert hook.generated_secret.encode() not in kept
    assert new.encode() not in kept


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"agent": "tenants/other/agents/a"}, "webhook.agent"),
        ({"agent": "a"}, "webhook.agent"),
        ({"input": ".body |"}, "webhook.input"),
        ({"dedupe": "env"}, "webhook.dedupe"),
        ({"secrets": ["short"]}, "webhook.secrets[0]"),
        ({"tolerance": "7200s"}, "webhook.tolerance"),
        ({"signature": {"scheme": "HMAC_SHA256_HEX"}}, "webhook.signature.header"),
        ({"signature": {"header": "x"}}, "webhook.signature.header"),
        ({"signature": {"scheme": "TIMESTAMPED", "header": "x"}}, "webhook.signature.prefix"),
        (
            {"signature": {"scheme": "TIMESTAMPED", "header": "x", "prefix": "v1=", "content": "{body}"}},
            "webhook.signature.content",
        ),
        ({"signature": {"scheme": "HMAC_SHA256_HEX", "header": "x"}, "secrets": ["short"]}, "webhook.secrets[0]"),
    ],
)
async def test_a_webhook_that_cannot_work_is_refused_by_its_field(side, fields, words):
    error = await refused(side.create(**fields), grpc.StatusCode.INVALID_ARGUMENT)
    assert words in error.details()


async def test_a_mapping_is_tried_without_a_signature_and_without_a_run(side):
    await side.create(input="{n: .body.n}", dedupe=".body.id")
    request = pb.TestWebhookRequest(name=HOOK, body=b'{"n": 1, "id": "e-1"}')
    found = await side.stub.TestWebhook(request, metadata=side.metadata)
    assert (json_format.MessageToDict(found.input), found.dedupe) == ({"n": 1}, "e-1")
    assert await side.names() == set()


async def test_runs_begin_only_while_who_set_the_webhook_up_may_begin_them(side):
    metadata = side.metadata
    async with side.made.channel("security") as channel:
        principal = principal_pb2.CreatePrincipalRequest(
            parent="tenants/default", principal_id="dev", principal=principal_pb2.Principal(kind="PERSON")
        )
        await principal_pb2_grpc.PrincipalServiceStub(channel).CreatePrincipal(principal, metadata=metadata)
        subject = "tenants/default/principals/dev"
        bindings = binding_pb2_grpc.BindingServiceStub(channel)
        binding = binding_pb2.Binding(
            principal=subject, role="tenants/system/roles/developer", resource="tenants/default"
        )
        request = binding_pb2.CreateBindingRequest(parent="tenants/default", binding_id="dev", binding=binding)
        await bindings.CreateBinding(request, metadata=metadata)
        key_request = api_key_pb2.CreateApiKeyRequest(
            parent="tenants/default", api_key_id="dev", api_key=api_key_pb2.ApiKey(principal=subject)
        )
        key = await api_key_pb2_grpc.ApiKeyServiceStub(channel).CreateApiKey(key_request, metadata=metadata)
        own = [await side.made.token(key=key.key_string)]
        async with asyncio.timeout(10):
            while True:
                try:
                    hook = await Side(side.made, side.stub, side.runs, own).create()
                    break
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert hook.requester == subject
        run = await side.ended(await side.send(signed(hook.generated_secret, "m1", b"{}"), b"{}"))
        assert run.requester == subject
        await bindings.DeleteBinding(
            binding_pb2.DeleteBindingRequest(name="tenants/default/bindings/dev"), metadata=metadata
        )
        await asyncio.sleep(1.5)
        await side.send(signed(hook.generated_secret, "m2", b"{}"), b"{}")
        denied = await _denied(side)
        assert (denied.subject, denied.actor, denied.permission) == (subject, HOOK, "orchestrator.runs.create")
        assert await side.names() == {run.name}
        updated = await side.update(["labels"], labels={"owner": "ops"})
        assert updated.requester == OPERATOR
        run = await side.ended(await side.send(signed(hook.generated_secret, "m3", b"{}"), b"{}"))
        assert run.requester == OPERATOR


async def test_whoever_gets_the_name_of_one_who_is_no_more_does_not_get_the_webhooks(side):
    async with directory(side.made) as here:
        own = await here.user("dev", "developer")
        of_dev = Side(side.made, side.stub, side.runs, [own])
        hook = await within(10.0, of_dev.create)
        run = await side.ended(await side.send(signed(hook.generated_secret, "m1", b"{}"), b"{}"))
        assert run.requester == hook.requester
        await here.unbind("dev-developer")
        name = principal_pb2.DeletePrincipalRequest(name=hook.requester)
        await here.principals.DeletePrincipal(name, metadata=[here.operator])
        new = Side(side.made, side.stub, side.runs, [await here.user("dev", "developer")])
        await within(10.0, lambda: new.create("another"))
        await side.send(signed(hook.generated_secret, "m2", b"{}"), b"{}")
        assert (await _denied(side, Code.UNAUTHENTICATED)).actor == HOOK
        assert await side.names() == {run.name}


async def _denied(side, code=Code.PERMISSION_DENIED):
    """The record of the run that could not be started."""
    request = record_pb2.ListRecordsRequest(parent="tenants/default", page_size=1000, service="orchestrator")
    async with side.made.channel("security") as channel, asyncio.timeout(20):
        stub = record_pb2_grpc.RecordServiceStub(channel)
        while True:
            answer = await stub.ListRecords(request, metadata=side.metadata)
            for record in answer.records:
                if record.call.method.endswith("/CreateRun") and record.call.code == code:
                    return record.call
            await asyncio.sleep(0.2)


async def test_after_a_flood_of_what_nobody_signed_the_signed_come_through(side):
    hook = await side.create()

    async def flood():
        try:
            await side.send({"webhook-id": "x"}, b"x" * 1000)
        except grpc.aio.AioRpcError as error:
            return reason_of(error)

    reasons = await asyncio.gather(*(flood() for _ in range(500)))
    assert set(reasons) <= {"SIGNATURE_INVALID", "WEBHOOK_BUSY"}
    await side.ended(await side.send(signed(hook.generated_secret, "m1", b"{}"), b"{}"))


async def test_a_message_larger_than_the_contract_allows_is_refused_over_grpc_too(side):
    hook = await side.create()
    body = b'{"x": "' + b"y" * (1_200_000) + b'"}'
    sent = side.send(signed(hook.generated_secret, "m1", body), body)
    await refused(sent, grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")


async def test_what_was_accepted_waits_for_an_orchestrator_that_is_away_and_its_run_for_an_agent_that_is_paused(side):
    hook = await side.create()
    await side.made.stop("orchestrator")
    first = await side.send(signed(hook.generated_secret, "m1", b'"first"'), b'"first"')
    await side.made.stop("integration")
    await side.made.start("integration")
    await side.made.start("orchestrator")
    async with side.made.channel("orchestrator") as channel, side.made.channel("integration") as hooks:
        side.runs = run_pb2_grpc.RunServiceStub(channel)
        side.stub = webhook_pb2_grpc.WebhookServiceStub(hooks)
        assert output(await side.ended(first)) == {"got": "first"}
        agents = agent_pb2_grpc.AgentServiceStub(channel)
        await agents.PauseAgent(agent_pb2.PauseAgentRequest(name=AGENT), metadata=side.metadata)
        second = await side.send(signed(hook.generated_secret, "m2", b'"second"'), b'"second"')
        await asyncio.sleep(1)
        waiting = await side.runs.GetRun(run_pb2.GetRunRequest(name=second), metadata=side.metadata)
        assert waiting.state == run_pb2.Run.QUEUED
        await agents.ResumeAgent(agent_pb2.ResumeAgentRequest(name=AGENT), metadata=side.metadata)
        assert output(await side.ended(second)) == {"got": "second"}
        assert reason_of(await refused(side.send({}, b""), grpc.StatusCode.UNAUTHENTICATED)) == "SIGNATURE_INVALID"
