"""What a run asks of a person, and whether somebody may answer: plain rules, no rows and no messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from mesh.identity import Caller
from orchestrator.errors import (
    ApprovalAnsweredError,
    ApprovalExpiredError,
    ApprovalWithdrawnError,
    FourEyesError,
    NotAnApproverError,
    OutcomeInvalidError,
)
from orchestrator.runs import StepKey

__all__ = ["DEFAULT_OPTIONS", "Answer", "Approval", "Question", "approval_id", "check_may_answer", "check_open"]

DEFAULT_OPTIONS = ("approve", "reject")


class Question(msgspec.Struct, frozen=True):
    """What is asked, by whom it may be answered, and until when.

    Attributes:
        title: one line for people.
        description: more, for people.
        data: for programs and forms, any JSON.
        options: what may be answered.
        approvers: full names of principals and roles; empty for everyone with the permission.
        four_eyes: true where the run's requester may not answer.
        until: when it is too late; None for never.
    """

    title: str
    description: str = ""
    data: Any = None
    options: tuple[str, ...] = DEFAULT_OPTIONS
    approvers: tuple[str, ...] = ()
    four_eyes: bool = False
    until: datetime | None = None


class Answer(msgspec.Struct, frozen=True):
    """What somebody answered; the step passes it on as it is.

    Attributes:
        outcome: one of the question's options.
        by: the principal's name.
        time: when.
        comment: what they say about it.
        data: what they send along, any JSON.
    """

    outcome: str
    by: str
    time: datetime
    comment: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A question of a run, as it stands.

    Attributes:
        name: `tenants/{tenant}/approvals/{approval}`.
        run: the run that asks.
        key: the coming to the step that asks.
        state: PENDING, ANSWERED, EXPIRED or WITHDRAWN.
        requester: on whose behalf the run acts.
        digest: of the request that answered; request_id: its id, empty for none.
    """

    name: str
    uid: str
    run: str
    key: StepKey
    state: str
    question: Question
    requester: str
    create_time: datetime
    update_time: datetime
    answer: Answer | None = None
    request_id: str = ""
    digest: str = ""
    labels: dict[str, str] = field(default_factory=dict)


def approval_id(run_uid: str, key: StepKey, attempt: int) -> str:
    """The id of what a step of a run asks: the same however often the run is gone on with, another after a redrive."""
    asked = f"{run_uid}|{key.scope}|{key.pointer}|{key.occurrence}|{attempt}"
    return hashlib.sha256(asked.encode()).hexdigest()[:20]


def check_may_answer(approval: Approval, caller: Caller, holds_role: Callable[[str], bool]) -> None:
    """Refuse who may not answer.

    Args:
        approval: what is asked.
        caller: who wants to answer.
        holds_role: whether the caller has a role, by its full name, on the run.

    Raises:
        FourEyesError: it is the run's own requester.
        NotAnApproverError: it is somebody else than was asked.
    """
    if approval.question.four_eyes and caller.subject == approval.requester:
        raise FourEyesError(
            f"{caller.subject} started {approval.run}; somebody else must answer", approval=approval.name
        )
    approvers = approval.question.approvers
    if approvers and caller.subject not in approvers and not any("/roles/" in a and holds_role(a) for a in approvers):
        raise NotAnApproverError(
            f"{approval.name} is to be answered by {', '.join(approvers)}, not by {caller.subject}",
            approval=approval.name,
        )


def check_open(approval: Approval, outcome: str, now: datetime) -> None:
    """Refuse an answer that is too late, or none of the options.

    Raises:
        ApprovalAnsweredError, ApprovalExpiredError, ApprovalWithdrawnError: nobody waits for it any more.
        OutcomeInvalidError: it is none of the options.
    """
    question, name = approval.question, approval.name
    if approval.state == "ANSWERED" and approval.answer is not None:
        by, said = approval.answer.by, approval.answer.outcome
        raise ApprovalAnsweredError(f"{name} was answered with `{said}` by {by} already", approval=name)
    if approval.state == "WITHDRAWN":
        raise ApprovalWithdrawnError(f"{approval.run} waits for {name} no longer", approval=name)
    if approval.state == "EXPIRED" or (question.until is not None and now >= question.until):
        raise ApprovalExpiredError(f"{name} is too late: it could be answered until {question.until}", approval=name)
    if outcome not in question.options:
        known = ", ".join(question.options)
        raise OutcomeInvalidError(f"`{outcome}` is no answer to {name}; it may be {known}", approval=name)
