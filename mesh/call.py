"""One call on its way through the stages: what is known of it so far, and the record it leaves.

The stages in `mesh.stages` fill it in; `mesh.record` keeps what `to_record` returns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc.aio
from tiation.mesh.v1 import call_record_pb2, options_pb2

from mesh.errors import TiationError
from mesh.http2.calls import CallContext
from mesh.identity import SYSTEM_TENANT, Caller
from mesh.methods import Method
from mesh.tracing import TraceContext

__all__ = ["Call", "Context", "call_in_progress", "current_call", "note_resource", "note_usage"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

current_call: ContextVar[Call | None] = ContextVar("call", default=None)
"""The call that the current task serves."""
_CATEGORIES = {number: name for name, number in options_pb2.Record.Category.items()}


@dataclass(slots=True)
class Call:
    """What is known of a call.

    Attributes:
        method: what its contract says.
        context: grpc's side of it.
        metadata: the request's headers, text only.
        uid: its identifier, a UUIDv7.
        start_ns: wall clock at arrival, nanoseconds.
        started_ns: monotonic clock at arrival, nanoseconds.
        trace: where in a trace it is.
        parent_span: the span above it; empty where the trace begins here.
        stage_us: microseconds by stage.
        resource: what it is about: what the request named, or what was found by that; see `note_resource`.
        usage: what it used up, by unit; see `note_usage`.
        counted: whose limits it counts against while it is under way; `mesh.stages.limits` knows them.
        ended: why it must not go on, told to a stream that was cut off.
        target: what the policy was asked about; empty where it was not.
        kept: true once a record of it is durable.
        open: false once the answer has been handed over.
    """

    method: Method
    context: CallContext
    metadata: Mapping[str, str]
    uid: str
    start_ns: int
    started_ns: int
    trace: TraceContext | None = None
    parent_span: str = ""
    peer: str = ""
    caller: Caller | None = None
    resource: str = ""
    target: str = ""
    decision: str = ""
    policy_revision: int = 0
    code: int = 0
    reason: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    counted: tuple[Any, ...] = ()
    ended: TiationError | None = None
    kept: bool = False
    open: bool = True
    stage_us: dict[str, int] = field(default_factory=dict)
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def trace_id(self) -> str:
        """Its trace, 32 hexadecimal digits; empty before it is known."""
        return self.trace.trace_id if self.trace is not None else ""

    def to_record(self, service: str) -> call_record_pb2.CallRecord:
        """The record of the call as it stands now."""
        caller, took_ns = self.caller, time.perf_counter_ns() - self.started_ns
        record = call_record_pb2.CallRecord(
            uid=self.uid,
            service=service,
            method=self.method.name,
            tenant=caller.tenant if caller else SYSTEM_TENANT,
            subject=caller.subject if caller else "",
            actor=caller.actor if caller else "",
            run=caller.run if caller else "",
            peer=self.peer,
            resource=self.resource,
            permission=self.method.permission,
            decision=self.decision,
            policy_revision=self.policy_revision,
            code=self.code,
            reason=self.reason,
            category=_CATEGORIES[self.method.category],
            trace_id=self.trace_id,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
        )
        for stage, taken in self.stage_us.items():  # maps and times as arguments cost twice as much
            record.stage_us[stage] = taken
        for unit, amount in self.usage.items():
            record.usage[unit] = amount
        start, duration = record.start_time, record.duration
        start.seconds, start.nanos = divmod(self.start_ns, 1_000_000_000)
        duration.seconds, duration.nanos = divmod(took_ns, 1_000_000_000)
        return record


def call_in_progress() -> Call | None:
    """The call that the current task serves, unless its answer is already on its way."""
    call = current_call.get()
    return call if call is not None and call.open else None


def note_resource(name: str) -> None:
    """Note what was found by the name in the current call's request; what the policy was asked about stays."""
    call = current_call.get()
    if call is not None:
        call.resource = name


def note_usage(unit: str, amount: int) -> None:
    """Add to what the current call has used up: `tokens_in`, `tokens_out`, `rows`; nothing is ever taken from it."""
    call = current_call.get()
    if call is not None:
        call.usage[unit] = call.usage.get(unit, 0) + max(0, amount)
