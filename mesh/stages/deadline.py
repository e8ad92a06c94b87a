"""How long a call may take: what its contract allows, or less where the caller says so."""

from __future__ import annotations

from mesh.call import Call
from mesh.stages.errors import DeadlineExceededError

__all__ = ["open_deadline"]


def open_deadline(call: Call) -> float | None:
    """Seconds after which to stop the call ourselves; None where grpc does it or a stream may go on.

    Raises:
        DeadlineExceededError: the deadline had passed on arrival.
    """
    remaining_s, allowed_s = call.context.time_remaining(), call.method.timeout_s
    if remaining_s is not None and remaining_s <= 0:
        raise DeadlineExceededError("the deadline had passed before the call arrived")
    if remaining_s is None or (allowed_s is not None and remaining_s > allowed_s):
        return allowed_s
    return None
