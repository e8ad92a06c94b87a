"""ApprovalService."""

from __future__ import annotations

from functools import partial
from typing import Any

from google.protobuf.struct_pb2 import Value
from tiation.orchestrator.v1 import approval_pb2 as pb
from tiation.orchestrator.v1 import approval_pb2_grpc

from mesh.call import Context
from mesh.errors import InvalidError
from mesh.etag import etag_of
from mesh.identity import Caller, current_caller
from mesh.json_value import json_to_value, value_to_json
from mesh.pagination import Pages
from mesh.policy_holder import PolicyHolder
from mesh.shelf import creation_of, timestamp
from orchestrator.answering import Answering, Submission
from orchestrator.approvals import Approval
from orchestrator.values import fault_of

__all__ = ["ApprovalServicer"]


class ApprovalServicer(approval_pb2_grpc.ApprovalServiceServicer):
    """Shows what runs ask of people and takes the answers.

    Args:
        answering: the core.
        policy: knows who has which role.
        pages: makes and checks page tokens.
    """

    def __init__(self, answering: Answering, policy: PolicyHolder, pages: Pages) -> None:
        self._answering = answering
        self._policy = policy
        self._pages = pages

    async def GetApproval(self, request: pb.GetApprovalRequest, _: Context) -> pb.Approval:
        """One approval."""
        return _message(await self._answering.get(request.name))

    async def ListApprovals(self, request: pb.ListApprovalsRequest, _: Context) -> pb.ListApprovalsResponse:
        """A page of a tenant's approvals."""
        bound_to = ("Approval", request.parent, request.run, str(request.show_all))
        page = self._pages.start(bound_to, request.page_size, request.page_token)
        found = await self._answering.page(request.parent, request.run, page, show_all=request.show_all)
        kept, token = self._pages.cut(bound_to, page, found, [approval.name for approval in found])
        return pb.ListApprovalsResponse(approvals=[_message(each) for each in kept], next_page_token=token)

    async def SubmitInput(self, request: pb.SubmitInputRequest, _: Context) -> pb.Approval:
        """An answer; it is durable when the answer to it goes."""
        caller = current_caller()
        data: Any = value_to_json(request.data, "data") if request.HasField("data") else None
        fault = fault_of(data)
        if fault:
            raise InvalidError("data", fault)
        submission = Submission(
            request.name,
            request.approval,
            request.outcome,
            request.comment,
            data,
            request.request_id,
            creation_of(request).digest,
        )
        return _message(await self._answering.submit(submission, caller, partial(self._holds, caller, request.name)))

    def _holds(self, caller: Caller, run: str, role: str) -> bool:
        """Whether the caller has a role on a run; a token that is limited to a role has that one only."""
        if caller.role and not role.endswith(f"/roles/{caller.role}"):
            return False
        return self._policy.policy().holds(caller.subject, role, run)


def _message(approval: Approval) -> pb.Approval:
    question = approval.question
    message = pb.Approval(
        name=approval.name,
        uid=approval.uid,
        etag=etag_of(approval.uid, approval.update_time.isoformat()),
        create_time=timestamp(approval.create_time),
        update_time=timestamp(approval.update_time),
        labels=approval.labels,
        state=approval.state,
        run=approval.run,
        step=approval.key.pointer,
        title=question.title,
        description=question.description,
        options=question.options,
        approvers=question.approvers,
        four_eyes=question.four_eyes,
        requester=approval.requester,
    )
    message.data.CopyFrom(_value(question.data))
    if question.until is not None:
        message.expire_time.CopyFrom(timestamp(question.until))
    if approval.answer is not None:
        answer = approval.answer
        message.answer.CopyFrom(
            pb.Answer(
                outcome=answer.outcome,
                comment=answer.comment,
                principal=answer.by,
                answer_time=timestamp(answer.time),
                data=_value(answer.data),
            )
        )
    return message


def _value(value: Any) -> Value:  # noqa: ANN401 -- any JSON
    return json_to_value(value, "value")
