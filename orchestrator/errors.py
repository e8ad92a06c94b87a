"""What can go wrong with agents and runs, one class per cause."""

from __future__ import annotations

from mesh.errors import Code, FieldViolation, TiationError

__all__ = [
    "AgentBusyError",
    "AnswerTooLargeError",
    "ApprovalAnsweredError",
    "ApprovalExpiredError",
    "ApprovalWithdrawnError",
    "ApprovalsManyError",
    "CallDeferredError",
    "FlowInvalidError",
    "FourEyesError",
    "HttpStatusError",
    "InputTooLargeError",
    "LeaseLostError",
    "NoEarlierRevisionError",
    "NotAnApproverError",
    "OrchestratorError",
    "OutcomeInvalidError",
    "OutcomeUnknownError",
    "QueueFullError",
    "RevisionIncompatibleError",
    "RevisionReplacedError",
    "RunNotRedrivableError",
    "ScheduleForbiddenError",
    "ShuttingDownError",
    "is_unheard",
]


class OrchestratorError(TiationError):
    """The base of everything that the orchestrator raises."""

    domain = "orchestrator.tiation.dev"


class CallDeferredError(OrchestratorError):
    """A callee takes no more calls for now and did nothing; the step waits for `retry_after_s`, then it calls again.

    Args:
        message: what the callee said.
        retry_after_s: how long it wants to be left alone.
        in_doubt: an earlier call with the same key may have had its effect.
    """

    code = Code.RESOURCE_EXHAUSTED
    reason = "CALL_DEFERRED"

    def __init__(self, message: str, retry_after_s: float, *, in_doubt: bool = False) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.wait_s = retry_after_s
        self.in_doubt = in_doubt


class FlowInvalidError(OrchestratorError):
    """A flow is no flow; the error says where and why.

    Args:
        message: what is wrong and what to do.
        line: where in the text, from 1.
        column: where in the line, from 1.
        pointer: JSON pointer to the place.
    """

    code = Code.INVALID_ARGUMENT
    reason = "FLOW_INVALID"

    def __init__(self, message: str, *, line: int, column: int, pointer: str = "") -> None:
        where = f"line {line}, column {column}" + (f" ({pointer})" if pointer else "")
        super().__init__(
            f"flow, {where}: {message}",
            violations=(FieldViolation("agent.flow", f"{where}: {message}"),),
            retry_after_s=None,
            line=line,
            column=column,
            pointer=pointer,
        )


class HttpStatusError(OrchestratorError):
    """An HTTP server answered with a status that says no.

    Args:
        message: what was asked and what came.
        status: the status.
    """

    code = Code.FAILED_PRECONDITION
    reason = "HTTP_STATUS"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, status=status)
        self.status = status


class InputTooLargeError(OrchestratorError):
    """A run's input is larger, or nested deeper, than what is journalled."""

    code = Code.INVALID_ARGUMENT
    reason = "INPUT_TOO_LARGE"


class AnswerTooLargeError(OrchestratorError):
    """A callee answered more than a step can take."""

    code = Code.FAILED_PRECONDITION
    reason = "RESULT_TOO_LARGE"


class AgentBusyError(OrchestratorError):
    """The agent has runs under way."""

    code = Code.FAILED_PRECONDITION
    reason = "AGENT_BUSY"


class LeaseLostError(OrchestratorError):
    """Another executor has the run now; nothing more is written for it here."""

    code = Code.ABORTED
    reason = "LEASE_LOST"


class ShuttingDownError(OrchestratorError):
    """The service is about to stop; whatever was asked goes on after it is back."""

    code = Code.UNAVAILABLE
    reason = "SHUTTING_DOWN"


class ApprovalAnsweredError(OrchestratorError):
    """Somebody has answered already."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_ANSWERED"


class ApprovalExpiredError(OrchestratorError):
    """The time for an answer is over."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_EXPIRED"


class ApprovalWithdrawnError(OrchestratorError):
    """The run has ended or went another way; nobody waits for the answer."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_WITHDRAWN"


class ApprovalsManyError(OrchestratorError):
    """The run waits for several answers, and the request does not say which one it is."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_AMBIGUOUS"


class FourEyesError(OrchestratorError):
    """Who started the run may not approve it."""

    code = Code.PERMISSION_DENIED
    reason = "FOUR_EYES"


class NotAnApproverError(OrchestratorError):
    """Somebody else was asked."""

    code = Code.PERMISSION_DENIED
    reason = "NOT_AN_APPROVER"


class OutcomeInvalidError(OrchestratorError):
    """The answer is none of those that the question allows."""

    code = Code.INVALID_ARGUMENT
    reason = "OUTCOME_INVALID"


class OutcomeUnknownError(OrchestratorError):
    """Nobody knows whether a call had its effect: the callee was asked, and what it made of that was never heard."""

    code = Code.UNKNOWN
    reason = "OUTCOME_UNKNOWN"

    def __init__(self, message: str) -> None:
        super().__init__(f"the call may have happened, look before it is made again: {message}")


_UNHEARD = frozenset(
    {
        Code.CANCELLED,
        Code.DEADLINE_EXCEEDED,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.UNAUTHENTICATED,
        Code.UNAVAILABLE,
    }
)
_OF_SYSTEMS = frozenset({"SYSTEM_TIMEOUT", "SYSTEM_UNAVAILABLE"})
"""What integration says of a system that it asked, and it asks none before it has looked for the key."""


def is_unheard(error: TiationError) -> bool:
    """Whether a callee may have turned a call away before it looked what became of an earlier one with the same key."""
    return error.code in _UNHEARD and error.reason not in _OF_SYSTEMS


class QueueFullError(OrchestratorError):
    """As many runs wait as may.

    Args:
        owner: the agent or tenant whose limit it is.
    """

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"

    def __init__(self, owner: str) -> None:
        message = f"as many runs of {owner} wait as may; try again when some have begun"
        super().__init__(message, violations=(FieldViolation(owner, message),), retry_after_s=5.0, resource=owner)


class NoEarlierRevisionError(OrchestratorError):
    """An agent has nothing to be rolled back to."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_EARLIER_REVISION"


class RevisionIncompatibleError(OrchestratorError):
    """A run cannot go on in another revision: what it has done is not the same there."""

    code = Code.FAILED_PRECONDITION
    reason = "REVISION_INCOMPATIBLE"


class RevisionReplacedError(OrchestratorError):
    """A run's revision went with its agent, and what has its name now is another agent's."""

    code = Code.FAILED_PRECONDITION
    reason = "REVISION_REPLACED"


class RunNotRedrivableError(OrchestratorError):
    """The run has not failed."""

    code = Code.FAILED_PRECONDITION
    reason = "RUN_NOT_FAILED"


class ScheduleForbiddenError(OrchestratorError):
    """Who sets up a schedule may not run its agent."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"
