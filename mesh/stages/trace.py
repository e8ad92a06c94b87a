"""Which trace a call belongs to (W3C Trace Context), and the span that it leaves there."""

from __future__ import annotations

import time

from mesh.call import Call
from mesh.errors import Code
from mesh.tracing import TRACE_HEADER, Span, Tracer, current_trace

__all__ = ["TraceStage"]

_CALLERS_OWN = frozenset(
    {
        Code.CANCELLED, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.PERMISSION_DENIED,
        Code.UNAUTHENTICATED, Code.FAILED_PRECONDITION, Code.ABORTED, Code.OUT_OF_RANGE,
    }
)  # fmt: skip
"""What a server's span is not an error for, by OpenTelemetry's conventions: the caller asked wrongly."""


class TraceStage:
    """Opens and closes the trace of a call.

    Args:
        tracer: decides what is sampled and sends spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def open(self, call: Call) -> None:
        """Take the trace from the request, or begin one; a malformed header counts as absent."""
        call.trace, call.parent_span = self._tracer.begin(call.metadata.get(TRACE_HEADER, ""), call.uid)
        current_trace.set(call.trace)

    def close(self, call: Call) -> None:
        """Leave a span, if the trace is sampled."""
        if call.trace is None or not call.trace.sampled or not call.method.recorded:
            return
        end_ns = call.start_ns + time.perf_counter_ns() - call.started_ns
        code = Code(call.code) if call.code else None
        failed = code is not None and code not in _CALLERS_OWN
        self._tracer.ended(
            Span(
                call.method.name,
                "server",
                call.trace,
                call.parent_span,
                call.start_ns,
                end_ns,
                _attributes(call),
                call.reason if failed else "",
            )
        )


def _attributes(call: Call) -> dict[str, str | int]:
    service, _, method = call.method.name.partition("/")
    known: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": call.code,
        "error.type": call.reason,
        "tiation.call": call.uid,
        "tiation.resource": call.resource,
        "tiation.decision": call.decision,
    }
    if call.caller is not None:
        known |= {
            "tiation.tenant": call.caller.tenant,
            "enduser.id": call.caller.subject,
            "tiation.actor": call.caller.actor,
            "tiation.run": call.caller.run,
        }
    known |= {f"tiation.stage.{stage}_us": taken for stage, taken in call.stage_us.items()}
    known |= {f"tiation.usage.{unit}": amount for unit, amount in call.usage.items()}
    return {name: value for name, value in known.items() if value != ""}
