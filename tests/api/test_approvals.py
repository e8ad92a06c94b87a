"""Approvals over mTLS, as the gateway calls them: who may see and answer them, by permission, role and four eyes."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from tiation.orchestrator.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    approval_pb2,
    approval_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
)
from tiation.security.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    binding_pb2,
    binding_pb2_grpc,
    principal_pb2,
    principal_pb2_grpc,
)

from tests.fakes.answers import reason_of, refused, within
from tests.fakes.platform import Platform, platform

TENANT = "tenants/default"
FLOW = """
document: {dsl: 1.0.0, name: payer}
do:
  - ask:
      call: approve
      with: {title: Pay, data: {euro: 12}, four_eyes: FOUR, approvers: APPROVERS}
"""


@asynccontextmanager
async def office(home, four="false", approvers="[]"):
    """Security and the orchestrator, with an agent that asks."""
    async with platform(home, ("security", "orchestrator")) as made, made.channel("orchestrator") as channel:
        authorization = await made.token()
        agent = agent_pb2.Agent(flow=FLOW.replace("FOUR", four).replace("APPROVERS", approvers))
        request = agent_pb2.CreateAgentRequest(parent=TENANT, agent_id="payer", agent=agent)
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        await within(10, lambda: stub.CreateAgent(request, metadata=[authorization]))
        yield made, channel, authorization


async def person(made: Platform, principal_id: str, role: str):
    """A principal with a role in the tenant, and its token."""
    operator = await made.token()
    name = f"{TENANT}/principals/{principal_id}"
    async with made.channel("security") as channel:
        await principal_pb2_grpc.PrincipalServiceStub(channel).CreatePrincipal(
            principal_pb2.CreatePrincipalRequest(
                parent=TENANT, principal_id=principal_id, principal=principal_pb2.Principal(display_name=principal_id)
            ),
            metadata=[operator],
        )
        binding = binding_pb2.Binding(principal=name, role=f"tenants/system/roles/{role}", resource=TENANT)
        await binding_pb2_grpc.BindingServiceStub(channel).CreateBinding(
            binding_pb2.CreateBindingRequest(parent=TENANT, binding_id=principal_id, binding=binding),
            metadata=[operator],
        )
        key = await api_key_pb2_grpc.ApiKeyServiceStub(channel).CreateApiKey(
            api_key_pb2.CreateApiKeyRequest(
                parent=TENANT, api_key_id=principal_id, api_key=api_key_pb2.ApiKey(principal=name)
            ),
            metadata=[operator],
        )
    return await made.token(key=key.key_string)


async def asked(channel, authorization):
    """A run that waits for an answer, and its approval."""
    run = await run_pb2_grpc.RunServiceStub(channel).CreateRun(
        run_pb2.CreateRunRequest(parent=f"{TENANT}/agents/payer", run=run_pb2.Run()), metadata=[authorization]
    )
    stub = approval_pb2_grpc.ApprovalServiceStub(channel)
    async with asyncio.timeout(10):
        while True:
            request = approval_pb2.ListApprovalsRequest(parent=TENANT, run=run.name)
            found = await stub.ListApprovals(request, metadata=[authorization])
            if found.approvals:
                return run, found.approvals[0]
            await asyncio.sleep(0.05)


async def test_an_approval_is_listed_shown_answered_and_the_run_goes_on(tmp_path):
    async with office(tmp_path) as (_, channel, authorization):
        run, approval = await asked(channel, authorization)
        runs = run_pb2_grpc.RunServiceStub(channel)
        stub = approval_pb2_grpc.ApprovalServiceStub(channel)
        async with asyncio.timeout(10):
            while (await runs.GetRun(run_pb2.GetRunRequest(name=run.name), metadata=[authorization])).state != (
                run_pb2.Run.WAITING_INPUT
            ):
                await asyncio.sleep(0.05)
        assert (approval.title, approval.state, approval.step) == ("Pay", approval_pb2.Approval.PENDING, "/do/0/ask")
        assert list(approval.options) == ["approve", "reject"]
        assert approval.requester == "tenants/system/principals/operator"
        shown = await stub.GetApproval(approval_pb2.GetApprovalRequest(name=approval.name), metadata=[authorization])
        assert shown == approval
        request = approval_pb2.SubmitInputRequest(
            name=run.name, approval=approval.name.rsplit("/", 1)[1], outcome="reject", comment="too much",
            request_id=str(uuid.uuid4()),
        )  # fmt: skip
        answered = await stub.SubmitInput(request, metadata=[authorization])
        assert answered.state == approval_pb2.Approval.ANSWERED
        assert (answered.answer.outcome, answered.answer.comment) == ("reject", "too much")
        assert answered.etag != approval.etag
        assert await stub.SubmitInput(request, metadata=[authorization]) == answered
        kinds = []
        async for each in runs.StreamRunEvents(
            run_pb2.StreamRunEventsRequest(name=run.name), metadata=[authorization], timeout=20
        ):
            kinds.append(run_pb2.RunEvent.Type.Name(each.event.type))
        assert kinds == [
            "RUN_CREATED", "RUN_STARTED", "INPUT_REQUESTED", "RUN_WAITING", "INPUT_RECEIVED", "RUN_STARTED",
            "STEP_SUCCEEDED", "RUN_SUCCEEDED",
        ]  # fmt: skip
        request.request_id = ""
        await refused(
            stub.SubmitInput(request, metadata=[authorization]),
            grpc.StatusCode.FAILED_PRECONDITION,
            "APPROVAL_ANSWERED",
        )
        listed = await stub.ListApprovals(
            approval_pb2.ListApprovalsRequest(parent=TENANT, show_all=True), metadata=[authorization]
        )
        assert [each.name for each in listed.approvals] == [approval.name]


async def test_who_may_only_look_may_not_answer(tmp_path):
    async with office(tmp_path) as (made, channel, authorization):
        viewer = await person(made, "vera", "viewer")
        run, approval = await asked(channel, authorization)
        stub = approval_pb2_grpc.ApprovalServiceStub(channel)
        await within(10, lambda: stub.GetApproval(_get(approval), metadata=[viewer]))
        submit = approval_pb2.SubmitInputRequest(name=run.name, outcome="approve")
        await refused(
            stub.SubmitInput(submit, metadata=[viewer]), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"
        )


def _get(approval) -> approval_pb2.GetApprovalRequest:
    return approval_pb2.GetApprovalRequest(name=approval.name)


async def test_four_eyes_are_two_people(tmp_path):
    async with office(tmp_path, four="true") as (made, channel, authorization):
        other = await person(made, "otto", "operator")
        run, _ = await asked(channel, authorization)
        stub = approval_pb2_grpc.ApprovalServiceStub(channel)
        submit = approval_pb2.SubmitInputRequest(name=run.name, outcome="approve")
        await refused(
            stub.SubmitInput(submit, metadata=[authorization]), grpc.StatusCode.PERMISSION_DENIED, "FOUR_EYES"
        )
        await within(10, lambda: stub.SubmitInput(submit, metadata=[other]))


async def test_a_role_may_be_asked(tmp_path):
    async with office(tmp_path, approvers="[roles/operator]") as (made, channel, authorization):
        developer = await person(made, "dora", "developer")
        operator = await person(made, "otto", "operator")
        run, _ = await asked(channel, authorization)
        stub = approval_pb2_grpc.ApprovalServiceStub(channel)
        submit = approval_pb2.SubmitInputRequest(name=run.name, outcome="approve")

        async def heard_of(token):
            """Until the new binding has reached the orchestrator the answer is another refusal."""
            async with asyncio.timeout(10):
                while True:
                    error = None
                    try:
                        return await stub.SubmitInput(submit, metadata=[token])
                    except grpc.aio.AioRpcError as caught:
                        error = caught
                    if reason_of(error) != "PERMISSION_DENIED":
                        return reason_of(error)

        assert await heard_of(developer) == "NOT_AN_APPROVER"
        assert (await heard_of(operator)).answer.principal == f"{TENANT}/principals/otto"


async def test_hostile_answers_get_one_clear_error(tmp_path):
    async with office(tmp_path) as (_, channel, authorization):
        run, approval = await asked(channel, authorization)
        stub = approval_pb2_grpc.ApprovalServiceStub(channel)

        async def wrong(code, reason="", **fields):
            request = approval_pb2.SubmitInputRequest(**{"name": run.name, "outcome": "approve"} | fields)
            await refused(stub.SubmitInput(request, metadata=[authorization]), code, reason)

        invalid = grpc.StatusCode.INVALID_ARGUMENT
        await wrong(invalid, outcome="")
        await wrong(invalid, outcome="x" * 64)
        await wrong(invalid, "OUTCOME_INVALID", outcome="maybe")
        await wrong(invalid, comment="x" * 5000)
        await wrong(invalid, request_id="mine")
        await wrong(invalid, name="tenants/default/agents/payer")
        await wrong(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", approval="../../x")
        await wrong(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", name=f"{TENANT}/agents/payer/runs/none")
        await wrong(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", name="tenants/other/agents/payer/runs/none")
        large = approval_pb2.SubmitInputRequest(name=run.name, outcome="approve")
        large.data.string_value = "x" * 300_000
        await refused(stub.SubmitInput(large, metadata=[authorization]), invalid)
        still = await stub.GetApproval(_get(approval), metadata=[authorization])
        assert still.state == approval_pb2.Approval.PENDING
