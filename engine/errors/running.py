"""What goes wrong while a model is waited for, or computes."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code, FieldViolation, TiationError

__all__ = [
    "AnswerUnreadError",
    "EnsembleError",
    "InferenceFailedError",
    "InferenceTimeoutError",
    "QueueFullError",
    "QueueTimeoutError",
    "SequenceExistsError",
    "SequenceNotFoundError",
    "SequenceRequiredError",
    "SequenceStateError",
    "SequencesFullError",
    "StepError",
    "TooDeepError",
]


class EnsembleError(EngineError):
    """An ensemble cannot be computed: one of its models is not loaded, or no longer fits the others."""

    code = Code.FAILED_PRECONDITION
    reason = "ENSEMBLE_BROKEN"


class SequenceRequiredError(EngineError):
    """A model that remembers was asked without saying for what sequence."""

    code = Code.INVALID_ARGUMENT
    reason = "SEQUENCE_REQUIRED"

    def __init__(self) -> None:
        message = "is missing; the model remembers: send sequence_id with each step, and sequence_start with the first"
        super().__init__(
            f"parameters[sequence_id]: {message}", violations=(FieldViolation("parameters[sequence_id]", message),)
        )


class SequenceNotFoundError(EngineError):
    """The sequence is not under way at this engine."""

    code = Code.NOT_FOUND
    reason = "SEQUENCE_NOT_FOUND"


class SequenceExistsError(EngineError):
    """A request begins a sequence that is under way."""

    code = Code.ALREADY_EXISTS
    reason = "SEQUENCE_EXISTS"


class SequencesFullError(EngineError):
    """As many sequences are under way as the model may have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SEQUENCES_FULL"


class SequenceStateError(EngineError):
    """The state of a sequence cannot be kept: it has grown too large, or does not fit the model's own input."""

    code = Code.FAILED_PRECONDITION
    reason = "SEQUENCE_STATE_INVALID"


class StepError(EngineError):
    """A step of an ensemble failed; its code and reason are those of what it failed with."""

    reason = "STEP_FAILED"

    def __init__(self, step: str, cause: TiationError) -> None:
        super().__init__(
            f"step `{step}`: {cause.message}",
            violations=cause.violations,
            retry_after_s=cause.retry_after_s,
            quota=cause.quota,
            **{**cause.metadata, "step": step},
        )
        self.code = cause.code  # type: ignore[misc]  # each instance carries its cause's own
        self.reason = cause.reason  # type: ignore[misc]


class TooDeepError(EngineError):
    """Too many models stand above each other, or one stands on itself."""

    code = Code.FAILED_PRECONDITION
    reason = "MODELS_TOO_DEEP"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"{model}: more than four models stand above each other here, or one of them stands on itself; "
            "name another model in one of their manifests",
            model=model,
        )


class AnswerUnreadError(EngineError):
    """An answer was not read while it was made, and too much of it waited."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "ANSWER_UNREAD"


class QueueFullError(EngineError):
    """More requests wait for the model than its queue holds."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class QueueTimeoutError(EngineError):
    """A request waited for the model as long as it may, and was not begun."""

    code = Code.DEADLINE_EXCEEDED
    reason = "QUEUE_TIMEOUT"

    def __init__(self, within_s: float) -> None:
        super().__init__(f"the request waited for {_duration(within_s)} for the model, as long as it may")


def _duration(seconds: float) -> str:
    """A time in the unit that callers say it in: requests over the Open Inference Protocol in microseconds."""
    for unit_s, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.6g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


class InferenceTimeoutError(EngineError):
    """A run of the model took longer than one may take."""

    code = Code.DEADLINE_EXCEEDED
    reason = "INFERENCE_TIMEOUT"


class InferenceFailedError(EngineError):
    """The runtime failed while it computed."""

    code = Code.INTERNAL
    reason = "INFERENCE_FAILED"
