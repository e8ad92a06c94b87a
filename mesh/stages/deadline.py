"""How long a call may take: what the caller says, or a default where the caller says nothing."""

from __future__ import annotations

from mesh.call import Call
from mesh.stages.errors import DeadlineExceededError

__all__ = ["DEFAULT_DEADLINE_S", "open_deadline"]

DEFAULT_DEADLINE_S = 120.0


def open_deadline(call: Call) -> float | None:
    """Seconds after which to stop the call ourselves; None where grpc does it or a stream may go on.

    Raises:
        DeadlineExceededError: the deadline had passed on arrival.
    """
    remaining_s = call.context.time_remaining()
    if remaining_s is None:
        return None if call.method.streams_in or call.method.streams_out else DEFAULT_DEADLINE_S
    if remaining_s <= 0:
        raise DeadlineExceededError("the deadline had passed before the call arrived")
    return None
