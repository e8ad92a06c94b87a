"""What can go wrong with agents and runs, one class per cause."""

from __future__ import annotations

from mesh.errors import Code, FieldViolation, TiationError

__all__ = [
    "AgentBusyError",
    "AgentPausedError",
    "CallDeferredError",
    "FlowInvalidError",
    "InputTooLargeError",
    "LeaseLostError",
    "OrchestratorError",
    "ShuttingDownError",
]


class OrchestratorError(TiationError):
    """The base of everything that the orchestrator raises."""

    domain = "orchestrator.tiation.dev"


class CallDeferredError(OrchestratorError):
    """A callee takes no more calls for now and did nothing; the step waits for `retry_after_s`, then it calls again."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "CALL_DEFERRED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.wait_s = retry_after_s


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


class InputTooLargeError(OrchestratorError):
    """A run's input is larger, or nested deeper, than what is journalled."""

    code = Code.INVALID_ARGUMENT
    reason = "INPUT_TOO_LARGE"


class AgentPausedError(OrchestratorError):
    """The agent takes no new runs."""

    code = Code.FAILED_PRECONDITION
    reason = "AGENT_PAUSED"


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
