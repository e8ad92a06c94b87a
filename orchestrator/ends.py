"""How a run ended, as its record tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mesh.errors import Code
from mesh.record import Ended
from orchestrator.problem import Problem

__all__ = ["RunEnd", "record_of"]

_CODES = {400: Code.INVALID_ARGUMENT, 401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.NOT_FOUND}
_CODES |= {408: Code.DEADLINE_EXCEEDED, 409: Code.ABORTED, 429: Code.RESOURCE_EXHAUSTED, 500: Code.INTERNAL}
_CODES |= {501: Code.UNIMPLEMENTED, 503: Code.UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run that has just ended.

    Attributes:
        name: the run's name.
        tenant: the tenant's id.
        agent: the agent's name.
        requester: the principal on whose behalf it acted.
        state: the state that it ended in.
        create_time: when it was created.
        end_time: when it ended.
        steps: how many steps it has committed.
        problem: what went wrong, where it failed.
    """

    name: str
    tenant: str
    agent: str
    requester: str
    state: str
    create_time: datetime
    end_time: datetime
    steps: int
    problem: Problem | None = None


def record_of(end: RunEnd) -> Ended:
    """The record of a run's end: it began when the run was created, and took as long as whoever asked for it waited."""
    code, reason = 0, ""
    if end.state != "SUCCEEDED":
        code = int(_CODES.get(end.problem.status, Code.UNKNOWN) if end.problem is not None else Code.CANCELLED)
        reason = end.problem.reason if end.problem is not None else ""
    return Ended(
        what=f"tiation.orchestrator.v1.Run/{end.state}",
        tenant=end.tenant,
        subject=end.requester,
        actor=end.agent,
        resource=end.name,
        start_ns=int(end.create_time.timestamp() * 1_000_000) * 1000,
        duration_ns=int((end.end_time - end.create_time).total_seconds() * 1_000_000) * 1000,
        code=code,
        reason=reason,
        usage={"steps": end.steps},
    )
