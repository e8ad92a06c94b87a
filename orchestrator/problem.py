"""What went wrong in a run, after RFC 7807, with the error types of the Serverless Workflow DSL."""

from __future__ import annotations

import msgspec

from mesh.errors import Code, TiationError
from mesh.sandbox import SandboxError
from orchestrator.errors import HttpStatusError

__all__ = ["OUTCOME_UNKNOWN", "UNCATCHABLE", "Problem", "StepFailedError", "problem_of"]

OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
"""The reason of a problem after which nobody knows whether there was an effect: it is never blindly tried again."""

UNCATCHABLE = frozenset({"JOURNAL_FULL", "STEP_BUDGET"})
"""The reasons of problems that end a run whatever its flow says: it has taken all that a run may."""

_TYPES = "https://serverlessworkflow.io/spec/1.0.0/errors/"
_HTTP = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.DEADLINE_EXCEEDED: 408,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}
_KINDS = {401: "authentication", 403: "authorization", 408: "timeout", 404: "configuration", 400: "validation"}


class Problem(msgspec.Struct, frozen=True):
    """One problem.

    Attributes:
        type: a URI that names the kind.
        status: an HTTP status that fits.
        title: one line for people.
        detail: what happened and what to do.
        instance: JSON pointer to the step.
        reason: the reason of the error that a service answered with; empty otherwise.
    """

    type: str
    status: int
    title: str
    detail: str
    instance: str = ""
    reason: str = ""

    @staticmethod
    def of_kind(kind: str, status: int, title: str, detail: str, instance: str, reason: str = "") -> Problem:
        """A problem of one of the DSL's kinds: `runtime`, `expression`, `communication`, …"""
        return Problem(_TYPES + kind, status, title, detail, instance, reason)


class StepFailedError(Exception):
    """A step ended with a problem, which a `try` around it may catch."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def problem_of(error: TiationError, pointer: str) -> Problem:
    """The problem that an error makes at a step."""
    if isinstance(error, SandboxError):
        return Problem.of_kind("expression", 400, "An expression failed", error.message, pointer, error.reason)
    if isinstance(error, HttpStatusError):
        title = "A server answered with an error"
        return Problem.of_kind("communication", error.status, title, error.message, pointer, error.reason)
    if error.reason == OUTCOME_UNKNOWN:
        return Problem.of_kind("communication", 500, "Outcome unknown", error.message, pointer, error.reason)
    status = _HTTP.get(Code(error.code), 500)
    kind = _KINDS.get(status, "communication" if status == 503 else "runtime")
    return Problem.of_kind(kind, status, "A call failed", error.message, pointer, error.reason)
