"""What is taken back ends within a second: keys, principals, members, bindings, names that somebody else has now."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc
from tiation.security.v1 import api_key_pb2, principal_pb2, tenant_pb2, tenant_pb2_grpc

from security.bootstrap import signing_key
from tests.fakes.answers import reason_of, refused, within
from tests.fakes.directory import HOME, Directory, directory, full
from tests.fakes.platform import Platform, platform

GET = tenant_pb2.GetTenantRequest(name=HOME)


async def refused_within(seconds: float, attempt) -> grpc.aio.AioRpcError:
    """What refuses the calls, at the latest after so long."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await attempt()
            except grpc.aio.AioRpcError as error:
                return error


async def switch(here: Directory, name: str, *, disabled: bool) -> None:
    changed = principal_pb2.Principal(name=full("principals", name), disabled=disabled)
    request = principal_pb2.UpdatePrincipalRequest(principal=changed, update_mask={"paths": ["disabled"]})
    await here.principals.UpdatePrincipal(request, metadata=[here.operator])


async def delete_principal(here: Directory, name: str) -> None:
    request = principal_pb2.DeletePrincipalRequest(name=full("principals", name))
    await here.principals.DeletePrincipal(request, metadata=[here.operator])


async def test_tokens_of_a_deleted_key_end_and_those_of_another_key_go_on(security: Platform):
    async with directory(security) as here:
        ada = await here.user("ada", "viewer")
        other = await security.token(key=(await here.key("ada", "other")).key_string)
        await within(2.0, lambda: here.tenants.GetTenant(GET, metadata=[ada]))
        await here.keys.DeleteApiKey(
            api_key_pb2.DeleteApiKeyRequest(name=full("apiKeys", "ada")), metadata=[here.operator]
        )
        error = await refused_within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[ada]))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
        await here.tenants.GetTenant(GET, metadata=[other])


async def test_a_key_made_anew_under_the_same_name_does_not_bring_old_tokens_back(security: Platform):
    async with directory(security) as here:
        ada = await here.user("ada", "viewer")
        await here.keys.DeleteApiKey(
            api_key_pb2.DeleteApiKeyRequest(name=full("apiKeys", "ada")), metadata=[here.operator]
        )
        fresh = await security.token(key=(await here.key("ada")).key_string)
        await within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[fresh]))
        await refused(here.tenants.GetTenant(GET, metadata=[ada]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_a_token_ends_with_its_key_whether_its_end_was_known_or_is_set_later(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        await here.bind("ada-views", "viewer", principal="ada")
        soon = datetime.now(UTC) + timedelta(seconds=2)
        short = await security.token(key=(await here.key("ada", "short", expire_time=soon)).key_string)
        long = await security.token(key=(await here.key("ada", "long")).key_string)
        await within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[short]))
        changed = api_key_pb2.ApiKey(name=full("apiKeys", "long"))
        changed.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=1))
        update = api_key_pb2.UpdateApiKeyRequest(api_key=changed, update_mask={"paths": ["expire_time"]})
        await here.keys.UpdateApiKey(update, metadata=[here.operator])
        await here.tenants.GetTenant(GET, metadata=[long])
        await asyncio.sleep(2.1)
        await refused(here.tenants.GetTenant(GET, metadata=[short]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
        await refused(here.tenants.GetTenant(GET, metadata=[long]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")
        update.api_key.ClearField("expire_time")
        await here.keys.UpdateApiKey(update, metadata=[here.operator])
        await within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[long]))


async def test_a_disabled_principals_tokens_do_not_come_back_when_it_is_enabled_again(security: Platform):
    async with directory(security) as here:
        ada = await here.user("ada", "viewer")
        await within(2.0, lambda: here.tenants.GetTenant(GET, metadata=[ada]))
        await switch(here, "ada", disabled=True)
        error = await refused_within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[ada]))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        await switch(here, "ada", disabled=False)
        key = await here.key("ada", "again")
        fresh = await security.token(key=key.key_string)
        await within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[fresh]))
        await refused(here.tenants.GetTenant(GET, metadata=[ada]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_the_token_of_a_deleted_principal_is_nothing_to_another_one_of_its_name(security: Platform):
    async with directory(security) as here:
        await here.principal("ada")
        token = await security.token(key=(await here.key("ada")).key_string)
        await delete_principal(here, "ada")
        fresh = await here.user("ada", "viewer")
        await within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[fresh]))
        await refused(here.tenants.GetTenant(GET, metadata=[token]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_a_token_names_the_very_principal_that_it_is_of(security: Platform):
    key = signing_key(security.home, security.settings)
    now = int(time.time())
    async with directory(security) as here:
        ada = await here.principal("ada")
        await here.bind("ada-views", "viewer", principal="ada")
        claims = {"tenant": "default", "subject": ada.name, "role": "", "token_id": "t", "begin": now, "end": now + 60}
        own, other = (
            ("authorization", f"Bearer {key.token(**claims, uid=uid)}") for uid in (ada.uid, "of-another-one")
        )
        await within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[own]))
        await refused(here.tenants.GetTenant(GET, metadata=[other]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_what_a_binding_or_a_group_gave_ends_with_it(security: Platform):
    async with directory(security) as here:
        ada, bob = await here.user("ada", "viewer"), await here.user("bob")
        await here.group("lookers", "bob")
        await here.bind("lookers-view", "viewer", group="lookers")
        for by in (ada, bob):
            await within(2.0, lambda by=by: here.tenants.GetTenant(GET, metadata=[by]))
        await here.unbind("ada-viewer")
        error = await refused_within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[ada]))
        assert reason_of(error) == "PERMISSION_DENIED"
        await here.members("lookers", remove=["bob"])
        await refused_within(1.0, lambda: here.tenants.GetTenant(GET, metadata=[bob]))


async def test_revocations_survive_a_restart_of_security(tmp_path):
    async with platform(tmp_path) as made:
        async with directory(made) as here:
            ada = await here.user("ada", "viewer")
            await here.keys.DeleteApiKey(
                api_key_pb2.DeleteApiKeyRequest(name=full("apiKeys", "ada")), metadata=[here.operator]
            )
        await made.stop("security")
        await made.start("security")
        async with directory(made) as here:
            await refused(here.tenants.GetTenant(GET, metadata=[ada]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED")


async def test_another_operators_key_ends_the_tokens_of_the_old_one(tmp_path):
    async with platform(tmp_path) as made:
        async with directory(made) as here:
            await here.tenants.GetTenant(GET, metadata=[here.operator])
            before = here.operator
        await made.stop("security")
        (made.home / "operator.key").unlink()
        await made.start("security")
        async with directory(made) as here:
            await here.tenants.GetTenant(GET, metadata=[here.operator])
            await refused(
                here.tenants.GetTenant(GET, metadata=[before]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REVOKED"
            )


async def test_tokens_of_a_new_signing_key_are_taken_and_those_of_a_lost_one_are_not(tmp_path):
    async with platform(tmp_path) as made:
        before = await made.token()
        await made.stop("security")
        (made.home / "security" / "token.pem").unlink()
        await made.start("security")
        async with made.channel("security") as channel:
            stub = tenant_pb2_grpc.TenantServiceStub(channel)
            await stub.GetTenant(GET, metadata=[await made.token()])
            await refused(stub.GetTenant(GET, metadata=[before]), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_stream_ends_with_what_allowed_it_and_its_last_message_says_so(tmp_path, monkeypatch):
    from orchestrator.executor import Executor

    monkeypatch.setattr(Executor, "start", _nothing)  # runs stay queued, and so their streams stay open
    monkeypatch.setattr(Executor, "wake", lambda self: None)
    async with (
        platform(tmp_path, ("security", "engine", "integration", "orchestrator")) as made,
        directory(made) as here,
        made.channel("orchestrator") as channel,
    ):
        agents = agent_pb2_grpc.AgentServiceStub(channel)
        flow = agent_pb2.Agent(flow=SET_FLOW)
        agent = await agents.CreateAgent(
            agent_pb2.CreateAgentRequest(parent=HOME, agent_id="waits", agent=flow), metadata=[here.operator]
        )
        ada = await here.user("ada", "operator")
        await within(2.0, lambda: agents.GetAgent(agent_pb2.GetAgentRequest(name=agent.name), metadata=[ada]))
        runs = run_pb2_grpc.RunServiceStub(channel)
        run = await runs.CreateRun(run_pb2.CreateRunRequest(parent=agent.name, run=run_pb2.Run()), metadata=[ada])
        stream = runs.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=run.name), metadata=[ada])
        first = await stream.read()
        assert first.event.sequence == 1
        claims = {"tenant": "default", "subject": full("principals", "ada"), "role": "", "token_id": "t"}
        end = int(time.time()) + 2
        short = signing_key(made.home, made.settings).token(**claims, begin=end - 10, end=end)
        own = [("authorization", f"Bearer {short}")]
        brief = runs.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=run.name), metadata=own)
        assert (await brief.read()).event.sequence == 1
        async with asyncio.timeout(4.0):
            assert (await brief.read()).error.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
        assert await brief.code() is grpc.StatusCode.UNAUTHENTICATED
        await here.unbind("ada-operator")
        async with asyncio.timeout(1.0):
            last = await stream.read()
        assert last.error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
        assert "orchestrator.runs" in last.error.message
        assert await stream.code() is grpc.StatusCode.PERMISSION_DENIED


async def _nothing(self) -> None:
    """Start nothing."""


SET_FLOW = """
document: {dsl: 1.0.0, namespace: tests, name: waits, version: 1.0.0}
do:
  - answer:
      set: {answer: 42}
"""
