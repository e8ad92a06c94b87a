"""The policy that a service keeps: an earlier release's file does, and this one's for an earlier one."""

from __future__ import annotations

import asyncio
import json
import time

import grpc
import msgspec
from joserfc.jwk import ECKey
from tiation.security.v1 import policy_pb2, policy_pb2_grpc, principal_pb2, tenant_pb2

from mesh.policy_holder import PolicyHolder
from security.signing import SigningKey
from tests.fakes.answers import refused, within
from tests.fakes.directory import HOME, directory, full
from tests.fakes.platform import Platform, platform

JWKS = SigningKey(ECKey.generate_key("P-256"), "i").jwks
EARLIER = {
    "revision": 7,
    "jwks": JWKS,
    "tenants": ["tenants/acme", "tenants/system"],
    "roles": [{"name": "tenants/system/roles/viewer", "permissions": ["*.*.get"]}],
    "bindings": [
        {
            "name": "tenants/acme/bindings/b",
            "principal": "tenants/acme/principals/ada",
            "role": "tenants/system/roles/viewer",
            "resource": "tenants/acme",
        }
    ],
    "principals": ["tenants/acme/principals/ada"],
}
"""As the release before kept it, word for word."""


class EarlierBinding(msgspec.Struct, frozen=True):
    """As the release before read it."""

    name: str
    principal: str
    role: str
    resource: str


class EarlierSnapshot(msgspec.Struct, frozen=True):
    """As the release before read it."""

    revision: int
    jwks: str
    tenants: tuple[str, ...]
    bindings: tuple[EarlierBinding, ...]
    principals: tuple[str, ...]


def test_a_service_decides_by_the_file_of_an_earlier_release_and_asks_for_all_of_it(tmp_path):
    (tmp_path / "policy.json").write_text(json.dumps(EARLIER))
    holder = PolicyHolder(tmp_path / "policy.json", issuer="i", stale_s=30.0)
    policy = holder.policy()
    decided = policy.decide("tenants/acme/principals/ada", "", "engine.models.get", "tenants/acme/models/m", "acme")
    assert decided.allowed
    assert policy.token_refusal("tenants/acme/principals/ada", "any", "", 1.0, 2.0) == ""
    assert holder.since == 0


def test_a_damaged_file_is_no_reason_not_to_start(tmp_path):
    for content in (b"", b"{", b"[]", b'{"revision": 1}', b"\xff\xfe", json.dumps({**EARLIER, "jwks": "{}"}).encode()):
        (tmp_path / "policy.json").write_bytes(content)
        assert PolicyHolder(tmp_path / "policy.json", issuer="i", stale_s=30.0).revision == 0


async def test_an_earlier_release_reads_what_this_one_keeps_and_gets_no_rights_of_it_that_it_does_not_understand(
    security: Platform,
):
    async with directory(security) as here:
        ada = await here.user("ada", "viewer")
        await here.principal("bob")
        await here.group("all", "bob")
        await here.bind("all-view", "viewer", group="all")
        await here.bind("bob-never", "admin", principal="bob", deny=True)
        await here.bind("bob-here", "admin", principal="bob", condition={"resource_prefix": f"{HOME}/agents/x"})
        await within(2.0, lambda: here.tenants.GetTenant(tenant_pb2.GetTenantRequest(name=HOME), metadata=[ada]))
        path, revision = security.home / "security" / "policy.json", (await here.explain("bob", "engine.models.get"))
        async with asyncio.timeout(5):
            while (kept := msgspec.json.decode(path.read_bytes(), type=EarlierSnapshot)).revision < (
                revision.policy_revision
            ):
                await asyncio.sleep(0.02)
    granted = {binding.principal for binding in kept.bindings}
    assert granted == {"tenants/system/principals/operator", full("principals", "ada"), ""}
    assert full("principals", "bob") in kept.principals


async def test_a_service_that_knows_no_changes_is_sent_the_whole_policy_each_time(security: Platform):
    async with directory(security) as here, security.channel("security", "engine") as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        earlier = stub.StreamPolicy(policy_pb2.StreamPolicyRequest())
        first = await earlier.read()
        assert first.HasField("snapshot")
        newer = stub.StreamPolicy(policy_pb2.StreamPolicyRequest(since_revision=first.revision, deltas=True))
        assert not (await newer.read()).HasField("snapshot")
        await here.principal("ada")
        async with asyncio.timeout(1.0):
            whole, change = await earlier.read(), await newer.read()
        assert full("principals", "ada") in whole.snapshot.principals
        assert whole.snapshot.tenants
        assert list(change.delta.changed.principals) == [full("principals", "ada")]
        assert not change.delta.changed.tenants
        assert change.delta.base_revision == first.revision
        await here.principals.DeletePrincipal(
            principal_pb2.DeletePrincipalRequest(name=full("principals", "ada")), metadata=[here.operator]
        )
        async with asyncio.timeout(1.0):
            change = await newer.read()
        assert list(change.delta.removed) == [full("principals", "ada")]
        for since in (first.revision + 1000, 1):  # of another platform, and from before security started
            stranger = stub.StreamPolicy(policy_pb2.StreamPolicyRequest(since_revision=since, deltas=True))
            assert (await stranger.read()).HasField("snapshot")
            stranger.cancel()
        earlier.cancel()
        newer.cancel()


async def test_a_change_that_does_not_fit_makes_a_service_ask_for_all(tmp_path):
    (tmp_path / "policy.json").write_text(
        json.dumps({**EARLIER, "accounts": [{"name": "tenants/acme/principals/ada"}]})
    )
    holder = PolicyHolder(tmp_path / "policy.json", issuer="i", stale_s=30.0)
    assert holder.since == 7
    wrong = policy_pb2.PolicyDelta(base_revision=9, changed=policy_pb2.PolicySnapshot(revision=10))
    assert not holder.take(policy_pb2.StreamPolicyResponse(revision=10, delta=wrong))
    assert holder.since == 0
    assert holder.policy().revision == 7
    whole = policy_pb2.PolicySnapshot(revision=10, jwks=JWKS, tenants=["tenants/acme"])
    assert holder.take(policy_pb2.StreamPolicyResponse(revision=10, snapshot=whole))
    assert holder.since == 10
    right = policy_pb2.PolicyDelta(
        base_revision=10, changed=policy_pb2.PolicySnapshot(revision=11), removed=["tenants/acme"]
    )
    assert holder.take(policy_pb2.StreamPolicyResponse(revision=11, delta=right))
    assert holder.policy().snapshot().tenants == ()


async def test_a_change_that_comes_while_another_is_sent_is_not_left_for_the_heartbeat(tmp_path):
    from mesh.config import SecuritySettings

    async with (
        platform(tmp_path, security=SecuritySettings(policy_heartbeat_s=20.0)) as made,
        directory(made) as here,
    ):
        began = time.monotonic()
        for number in range(30):
            by = await here.user(f"p{number}", "viewer")
            await within(
                1.0, lambda by=by: here.tenants.GetTenant(tenant_pb2.GetTenantRequest(name=HOME), metadata=[by])
            )
            await here.unbind(f"p{number}-viewer")
            async with asyncio.timeout(1.0):
                while True:
                    try:
                        await here.tenants.GetTenant(tenant_pb2.GetTenantRequest(name=HOME), metadata=[by])
                    except grpc.aio.AioRpcError:
                        break
        assert time.monotonic() - began < 60
        await refused(
            here.tenants.GetTenant(tenant_pb2.GetTenantRequest(name=HOME), metadata=[by]),
            grpc.StatusCode.PERMISSION_DENIED,
        )


async def test_a_service_that_starts_waits_for_the_newest_policy_but_not_for_a_security_that_is_away(tmp_path):
    (tmp_path / "policy.json").write_text(json.dumps(EARLIER))
    holder = PolicyHolder(tmp_path / "policy.json", issuer="i", stale_s=30.0)
    starting = asyncio.create_task(holder.started())
    await asyncio.sleep(0.1)
    assert not starting.done()
    holder.take(policy_pb2.StreamPolicyResponse(revision=7))
    async with asyncio.timeout(0.5):
        await starting
    alone = PolicyHolder(tmp_path / "policy.json", issuer="i", stale_s=30.0)
    began = time.monotonic()
    await alone.started()
    assert 1.5 < time.monotonic() - began < 3.0
    assert alone.revision == 7
