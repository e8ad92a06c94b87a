"""Takes people's answers: checked, kept and journalled in one transaction, so that each counts once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.catalogue import AlreadyExistsError, NotFoundError
from mesh.db import Database, Transaction
from mesh.identity import Caller
from mesh.pagination import Page
from mesh.resource import tenant_of
from orchestrator.approvals import Answer, Approval, check_may_answer, check_open
from orchestrator.errors import ApprovalsManyError, ApprovalWithdrawnError
from orchestrator.ports import RunRows
from orchestrator.runs import NewEvent

__all__ = ["Answering", "Submission"]

_TWO = Page(2, None)


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody wants to answer.

    Attributes:
        run: the run's name.
        approval_id: which of its approvals; empty for the only one that is pending.
        request_id: the caller's own; empty for none.
        digest: of the whole request, to know a repeated one by.
    """

    run: str
    approval_id: str
    outcome: str
    comment: str
    data: Any
    request_id: str
    digest: str


class Answering:
    """Shows approvals and takes answers.

    Args:
        database: the service's own database.
        rows: its statements.
        heard: told which run an answer has come for.
    """

    def __init__(self, database: Database, rows: RunRows, heard: Callable[[str], None]) -> None:
        self._database = database
        self._rows = rows
        self._heard = heard

    async def get(self, name: str) -> Approval:
        """One approval.

        Raises:
            NotFoundError: there is none of that name.
        """
        found = await self._database.read(lambda transaction: self._rows.approval(transaction, name))
        if found is None:
            raise NotFoundError(name)
        return found

    async def page(self, parent: str, run: str, page: Page, *, show_all: bool) -> list[Approval]:
        """A page of a tenant's approvals and one more, by name."""
        return await self._database.read(
            lambda transaction: self._rows.approvals_page(transaction, parent, run, page, show_all=show_all)
        )

    async def submit(self, submission: Submission, caller: Caller, holds_role: Callable[[str], bool]) -> Approval:
        """Answer; the run goes on at once.

        Args:
            submission: the answer.
            caller: who answers.
            holds_role: whether the caller has a role, by its full name, on the run.

        Raises:
            NotFoundError: the run asks no such thing.
            FourEyesError, NotAnApproverError: it is not for this caller to answer.
            ApprovalAnsweredError, ApprovalExpiredError, ApprovalWithdrawnError: nobody waits for it any more.
            AlreadyExistsError: the request id was used for another answer.
        """

        def work(transaction: Transaction) -> tuple[Approval, bool]:
            approval = self._found(transaction, submission)
            check_may_answer(approval, caller, holds_role)
            if approval.answer is not None and submission.request_id and approval.request_id == submission.request_id:
                if approval.digest != submission.digest or approval.answer.by != caller.subject:
                    raise AlreadyExistsError(f"an answer with the request id {submission.request_id}")
                return approval, False
            return self._answer(transaction, approval, submission, caller), True

        approval, fresh = await self._database.write(work)
        if fresh:
            self._heard(approval.run)
        return approval

    def _found(self, transaction: Transaction, submission: Submission) -> Approval:
        """What the submission is about."""
        run = submission.run
        if submission.approval_id:
            name = f"tenants/{tenant_of(run)}/approvals/{submission.approval_id}"
            approval = self._rows.approval(transaction, name)
            if approval is None or approval.run != run:
                raise NotFoundError(name if approval is None else f"{name} of {run}")
            return approval
        pending = self._rows.approvals_page(transaction, f"tenants/{tenant_of(run)}", run, _TWO, show_all=False)
        if len(pending) > 1:
            raise ApprovalsManyError(f"{run} waits for several answers; say which one `approval` is", run=run)
        if not pending:
            return self._last(transaction, run)
        return pending[0]

    def _last(self, transaction: Transaction, run: str) -> Approval:
        """The only approval that a run has ever asked for, to say what became of it or to repeat its answer."""
        if self._rows.get(transaction, run) is None:
            raise NotFoundError(run)
        known = self._rows.approvals_page(transaction, f"tenants/{tenant_of(run)}", run, _TWO, show_all=True)
        if len(known) != 1:
            raise ApprovalWithdrawnError(f"{run} waits for no answer", run=run)
        return known[0]

    def _answer(
        self, transaction: Transaction, approval: Approval, submission: Submission, caller: Caller
    ) -> Approval:  # fmt: skip
        now = datetime.now(UTC)
        check_open(approval, submission.outcome, now)
        answer = Answer(submission.outcome, caller.subject, now, submission.comment, submission.data)
        key = approval.key
        value = msgspec.to_builtins(answer)
        event = NewEvent("INPUT_RECEIVED", key.pointer, key.occurrence, value=value, scope=key.scope)
        kept = self._rows.answer_approval(
            transaction, approval.name, answer, submission.request_id, submission.digest
        ) and self._rows.hear(transaction, approval.run, event, now)
        found = self._rows.approval(transaction, approval.name)
        if not kept or found is None:
            raise ApprovalWithdrawnError(f"{approval.run} waits for {approval.name} no longer", approval=approval.name)
        return found
