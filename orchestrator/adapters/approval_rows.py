"""The SQL of approvals: what runs ask of people, each answered, expired or withdrawn once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, column, insert, select, table, update

from mesh.pagination import Page
from mesh.resource import tenant_of
from orchestrator.approvals import Answer, Approval, Question
from orchestrator.runs import ENDED, StepKey

__all__ = ["ApprovalRows"]

_approvals = table(
    "approvals",
    *(
        column(name)
        for name in (
            "name", "tenant", "uid", "run", "step", "scope", "occurrence", "state", "question", "requester", "labels",
            "create_time", "update_time", "answer", "request_id", "digest",
        )
    ),
)  # fmt: skip
_runs = table("runs", column("name"), column("state"))
_RUN_ENDED = _runs.c.state.in_(sorted(ENDED))


class ApprovalRows:
    """Statements on a connection; each method runs inside the caller's transaction."""

    def add_approval(self, connection: Connection, approval: Approval) -> None:
        """Keep a new one."""
        values = {
            "name": approval.name,
            "tenant": tenant_of(approval.name),
            "uid": approval.uid,
            "run": approval.run,
            "step": approval.key.pointer,
            "scope": approval.key.scope,
            "occurrence": approval.key.occurrence,
            "state": approval.state,
            "question": _text(approval.question),
            "requester": approval.requester,
            "labels": _text(approval.labels),
            "create_time": approval.create_time.isoformat(),
            "update_time": approval.update_time.isoformat(),
        }
        connection.execute(insert(_approvals).values(values))

    def approval(self, connection: Connection, name: str) -> Approval | None:
        """One; nobody waits for it any more where its run has ended."""
        statement = _select().where(_approvals.c.tenant == tenant_of(name), _approvals.c.name == name)
        row = connection.execute(statement).one_or_none()
        return _approval(row) if row is not None else None

    def approvals_page(
        self, connection: Connection, parent: str, run: str, page: Page, *, show_all: bool
    ) -> list[Approval]:
        """One more than the page holds, by name: those of a tenant, or of one run; all, or those that are pending."""
        tenant = parent.split("/")[1]
        statement = _select().where(_approvals.c.tenant == tenant, _approvals.c.name > (page.cursor or ""))
        if run:
            statement = statement.where(_approvals.c.run == run)
        if not show_all:
            statement = statement.where(_approvals.c.state == "PENDING", ~_RUN_ENDED)
        statement = statement.order_by(_approvals.c.name).limit(page.limit + 1)
        return [_approval(row) for row in connection.execute(statement)]

    def answer_approval(self, connection: Connection, name: str, answer: Answer, request_id: str, digest: str) -> bool:
        """Keep an answer; false where the approval is no longer pending."""
        values = {
            "state": "ANSWERED",
            "answer": _text(answer),
            "request_id": request_id,
            "digest": digest,
            "update_time": answer.time.isoformat(),
        }
        statement = update(_approvals).where(*_pending(name)).values(values)
        return connection.execute(statement).rowcount == 1

    def close_approval(self, connection: Connection, name: str, state: str, now: datetime) -> Approval | None:
        """Expire or withdraw one that is pending; returns it as it is then."""
        values = {"state": state, "update_time": now.isoformat()}
        connection.execute(update(_approvals).where(*_pending(name)).values(values))
        return self.approval(connection, name)

    def withdraw_approvals(self, connection: Connection, run: str, now: datetime) -> None:
        """Withdraw all of a run that are pending."""
        pending = (
            _approvals.c.tenant == tenant_of(run), _approvals.c.run == run, _approvals.c.state == "PENDING",
        )  # fmt: skip
        values = {"state": "WITHDRAWN", "update_time": now.isoformat()}
        connection.execute(update(_approvals).where(*pending).values(values))


def _select() -> Select[Any]:
    return select(_approvals, _runs.c.state.label("run_state")).select_from(
        _approvals.join(_runs, _approvals.c.run == _runs.c.name)
    )


def _pending(name: str) -> tuple[Any, ...]:
    return (
        _approvals.c.tenant == tenant_of(name), _approvals.c.name == name, _approvals.c.state == "PENDING",
    )  # fmt: skip


def _text(value: Any) -> str:  # noqa: ANN401 -- any JSON
    return msgspec.json.encode(value).decode()


def _approval(row: Row[Any]) -> Approval:
    withdrawn = row.state == "PENDING" and row.run_state in ENDED
    return Approval(
        name=row.name,
        uid=row.uid,
        run=row.run,
        key=StepKey(row.scope, row.step, row.occurrence),
        state="WITHDRAWN" if withdrawn else row.state,
        question=msgspec.json.decode(row.question, type=Question),
        requester=row.requester,
        create_time=datetime.fromisoformat(row.create_time),
        update_time=datetime.fromisoformat(row.update_time),
        answer=msgspec.json.decode(row.answer, type=Answer) if row.answer else None,
        request_id=row.request_id or "",
        digest=row.digest or "",
        labels=msgspec.json.decode(row.labels),
    )
