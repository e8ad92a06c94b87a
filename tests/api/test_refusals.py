"""What every port refuses, at which stage, and that each refusal is one clear status and one record."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio
import pytest
from tiation.security.v1 import (
    policy_pb2,
    policy_pb2_grpc,
    record_pb2,
    record_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
    workload_pb2,
    workload_pb2_grpc,
)

from mesh.config import Settings
from mesh.identity import issuer_of
from mesh.svid import new_key
from security.app import bootstrap, issue_svid
from security.bootstrap import signing_key
from security.signing import SigningKey
from tests.fakes.answers import refused
from tests.fakes.platform import Platform, secure_channel

GET = tenant_pb2.GetTenantRequest(name="tenants/default")
OPERATOR = "tenants/system/principals/operator"


async def unreachable(channel: grpc.aio.Channel) -> None:
    """A call that must not get through the handshake."""
    async with channel:
        await refused(tenant_pb2_grpc.TenantServiceStub(channel).GetTenant(GET, timeout=3), grpc.StatusCode.UNAVAILABLE)


async def test_plain_text_is_refused(security: Platform):
    await unreachable(grpc.aio.insecure_channel(security.address("security")))


async def test_a_client_without_certificate_is_refused(security: Platform):
    bundle = issue_svid(security.home, security.settings, "gateway")["trust_bundle"].encode()
    options = [("grpc.ssl_target_name_override", "security.tiation.local")]
    credentials = grpc.ssl_channel_credentials(bundle)
    await unreachable(grpc.aio.secure_channel(security.address("security"), credentials, options=options))


async def test_a_strangers_certificate_is_refused(security: Platform, tmp_path):
    bootstrap(tmp_path / "stranger", Settings())
    theirs = issue_svid(tmp_path / "stranger", Settings(), "gateway")
    theirs["trust_bundle"] = issue_svid(security.home, security.settings, "gateway")["trust_bundle"]
    await unreachable(secure_channel(security.address("security"), "security", theirs))


async def test_a_certificate_of_no_workload_is_refused(security: Platform):
    async with security.channel("security", "../../else") as channel:
        call = tenant_pb2_grpc.TenantServiceStub(channel).GetTenant(GET, metadata=[await security.token()])
        await refused(call, grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")


async def test_the_right_certificate_of_the_wrong_service_is_refused(security: Platform):
    async with security.channel("security", "integration") as channel:
        call = tenant_pb2_grpc.TenantServiceStub(channel).GetTenant(GET, metadata=[await security.token()])
        await refused(call, grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")


async def test_internal_methods_are_not_for_the_gateway(security: Platform):
    async with security.channel("security") as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.StreamPolicy(policy_pb2.StreamPolicyRequest(), metadata=[await security.token()]):
                pass
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_workload_gets_a_certificate_for_itself_whatever_it_asks_for(security: Platform):
    _, request = new_key()
    async with security.channel("security", "engine") as channel:
        stub = workload_pb2_grpc.WorkloadServiceStub(channel)
        answer = await stub.RenewSvid(workload_pb2.RenewSvidRequest(csr=request))
        await refused(
            stub.RenewSvid(workload_pb2.RenewSvidRequest(csr=b"no request")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "SIGNING_REQUEST_INVALID",
        )
    from cryptography import x509

    names = x509.load_pem_x509_certificate(answer.certificate_chain.encode()).extensions
    alternative = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://tiation.local/svc/engine"]


def token_of(key: SigningKey, **changed: object) -> tuple[str, str]:
    """A token as security would sign it, but for what the test changes."""
    now = int(time.time())
    claims = {"tenant": "default", "subject": OPERATOR, "role": "", "token_id": "t", "begin": now, "end": now + 60}
    return ("authorization", "Bearer " + key.token(**{**claims, **changed}))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
        ("Basic YWxhZGRpbjpvcGVu", "TOKEN_MISSING"),
        ("Bearer ", "TOKEN_MISSING"),
        ("Bearer not.a.token", "TOKEN_INVALID"),
        ("Bearer " + "a" * 10_000, "TOKEN_INVALID"),
    ],
)
async def test_a_call_without_a_usable_token_is_unauthenticated(security: Platform, header, reason):
    metadata = [("authorization", header)] if header is not None else []
    async with security.channel("security") as channel:
        call = tenant_pb2_grpc.TenantServiceStub(channel).GetTenant(GET, metadata=metadata)
        await refused(call, grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_tokens_expired_tampered_foreign_or_for_others_are_refused(security: Platform, tmp_path):
    key = signing_key(security.home, security.settings)
    foreign = SigningKey.open(tmp_path / "foreign.pem", issuer_of("tiation.local"))
    other_issuer = SigningKey(key.key, "https://elsewhere")
    name, good = token_of(key)
    head, body, signature = good.split(".")
    cases = [
        (token_of(key, begin=0, end=int(time.time()) - 1), "TOKEN_EXPIRED"),
        (token_of(key, begin=int(time.time()) + 60), "TOKEN_EXPIRED"),
        ((name, f"{head}.{body[:-4]}AAAA.{signature}"), "TOKEN_INVALID"),
        ((name, f"{head}.{body}."), "TOKEN_INVALID"),
        (token_of(foreign), "TOKEN_INVALID"),
        (token_of(other_issuer), "TOKEN_INVALID"),
    ]
    async with security.channel("security") as channel:
        stub = tenant_pb2_grpc.TenantServiceStub(channel)
        await stub.GetTenant(GET, metadata=[(name, good)])
        for header, reason in cases:
            await refused(stub.GetTenant(GET, metadata=[header]), grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_bytes_that_are_no_message_are_refused_and_recorded(security: Platform):
    authorization = await security.token()
    async with security.channel("security") as channel:
        raw = channel.unary_unary(
            "/tiation.security.v1.TenantService/GetTenant", request_serializer=bytes, response_deserializer=bytes
        )
        await refused(
            raw(b"\xff\xff\xff\xff", metadata=[authorization]), grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED"
        )
        assert await records_of(channel, authorization, reason="REQUEST_MALFORMED") == 1


async def test_names_of_the_wrong_form_are_refused(security: Platform):
    authorization = await security.token()
    async with security.channel("security") as channel:
        stub = tenant_pb2_grpc.TenantServiceStub(channel)
        for name in ("", "tenants/", "tenants/Default", "tenants/default/..", "agents/x", "tenants/default\n"):
            call = stub.GetTenant(tenant_pb2.GetTenantRequest(name=name), metadata=[authorization])
            await refused(call, grpc.StatusCode.INVALID_ARGUMENT)


async def test_an_unknown_method_is_unimplemented(security: Platform):
    async with security.channel("security") as channel:
        raw = channel.unary_unary("/tiation.security.v1.TenantService/Nothing")
        await refused(raw(b""), grpc.StatusCode.UNIMPLEMENTED)


async def test_a_hundred_calls_of_which_twenty_are_denied_leave_a_hundred_records(security: Platform):
    operator, viewer = await security.token(), await security.token(role="viewer")
    async with security.channel("security") as channel:
        tenants = tenant_pb2_grpc.TenantServiceStub(channel)
        records = record_pb2_grpc.RecordServiceStub(channel)

        async def one(number: int) -> None:
            if number % 5:
                await tenants.GetTenant(GET, metadata=[viewer])
            else:
                denied = records.ListRecords(record_pb2.ListRecordsRequest(parent="tenants/default"), metadata=[viewer])
                await refused(denied, grpc.StatusCode.PERMISSION_DENIED)

        await asyncio.gather(*(one(number) for number in range(100)))
        assert await records_of(channel, operator, method="TenantService/GetTenant", code=0, wanted=80) == 80
        assert await records_of(channel, operator, reason="PERMISSION_DENIED", wanted=20) == 20


async def records_of(channel, authorization, *, wanted=1, method="", reason="", code=None) -> int:
    """How many such records there are, once as many as wanted have arrived."""
    stub = record_pb2_grpc.RecordServiceStub(channel)
    request = record_pb2.ListRecordsRequest(parent="tenants/default", page_size=1000)
    async with asyncio.timeout(5):
        while True:
            answer = await stub.ListRecords(request, metadata=[authorization])
            found = [
                record
                for record in answer.records
                if method in record.call.method
                and (not reason or record.call.reason == reason)
                and (code is None or record.call.code == code)
            ]
            if len(found) >= wanted:
                return len(found)
            await asyncio.sleep(0.05)
