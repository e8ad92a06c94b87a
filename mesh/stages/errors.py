"""What a caller is told when a call fails: our own errors as they are, anything else without its text."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import structlog

from mesh.call import Call
from mesh.errors import Code, TiationError
from mesh.status import remote_error

__all__ = [
    "CancelledCallError",
    "DeadlineExceededError",
    "InternalError",
    "MalformedRequestError",
    "RequestTooLargeError",
    "failure_of",
]


class InternalError(TiationError):
    """A mistake of ours; the text stays in the log."""

    code = Code.INTERNAL
    reason = "INTERNAL"


class MalformedRequestError(TiationError):
    """The bytes are no message of the method's request type."""

    code = Code.INVALID_ARGUMENT
    reason = "REQUEST_MALFORMED"


class RequestTooLargeError(TiationError):
    """The request is larger than the method's contract allows."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "REQUEST_TOO_LARGE"


class CancelledCallError(TiationError):
    """The caller went away."""

    code = Code.CANCELLED
    reason = "CALL_CANCELLED"


class DeadlineExceededError(TiationError):
    """The time that the caller gave is over."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


def failure_of(call: Call, error: BaseException) -> TiationError:
    """The error to answer with.

    An error that nobody expected is logged with its stack and the call's identifier; the caller gets only the
    latter.
    """
    if isinstance(error, TiationError):
        return error
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        remaining_s = call.context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            return DeadlineExceededError("the deadline passed before the answer was ready")
        return CancelledCallError("the caller cancelled the call")
    if isinstance(error, TimeoutError):
        return DeadlineExceededError("the deadline passed before the answer was ready")
    if isinstance(error, grpc.aio.AioRpcError):
        return remote_error(error)
    structlog.get_logger("mesh.call").error(
        "call failed", method=call.method.name, call=call.uid, trace_id=call.trace_id, exc_info=error
    )
    return InternalError(f"something went wrong on our side; quote call {call.uid} to the operator", call=call.uid)
