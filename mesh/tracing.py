"""Spans: what a trace shows of a call, of a run and of each of its steps, sent to a collector over OTLP.

Nothing is built for a trace that is not sampled: a span comes into being when what it tells of has ended, out of
figures that were taken anyway. Whether a trace is sampled is decided once, where it begins, and carried along (W3C
Trace Context).
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mesh.config import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["TRACE_HEADER", "Span", "TraceContext", "Tracer", "current_trace", "derived_span_id", "parse_traceparent"]

TRACE_HEADER = "traceparent"
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LAST_EXPORTS_S = 2.0
_EXPORT_S = 5


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in a trace something happens.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits: the span that whatever is called from here has as its parent.
        sampled: whether spans are kept.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def header(self) -> str:
        """As the `traceparent` header carries it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def below(self, span_id: str) -> TraceContext:
        """The same trace, seen from another span."""
        return TraceContext(self.trace_id, span_id, self.sampled)


current_trace: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""Where the current task is; what it calls is told."""


def parse_traceparent(header: str) -> TraceContext | None:
    """What a header says; None where it is absent or malformed."""
    match = _FORM.fullmatch(header)
    if match is None or not match[1].strip("0") or not match[2].strip("0"):
        return None
    return TraceContext(match[1], match[2], sampled=bool(int(match[3], 16) & 1))


def derived_span_id(name: str) -> str:
    """The span of something that has a name of its own, the same in every process that tells of it."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that has ended.

    Attributes:
        name: what it was, few different ones.
        kind: `server`, `client` or `internal`.
        context: its trace and its own identifier.
        parent: identifier of the span that it belongs to; empty for a trace's first.
        start_ns: wall clock, nanoseconds.
        end_ns: as above.
        attributes: what is known of it, by OpenTelemetry's names.
        error: what went wrong; empty where nothing did.
    """

    name: str
    kind: str
    context: TraceContext
    parent: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    error: str = ""


class Tracer:
    """Decides what is sampled, and sends spans in the background; a collector that is away costs the spans, no call.

    Args:
        service: whose spans they are.
        settings: where the collector is, and how much is sampled.
        chance: a number from 0 to 1, different each time.
    """

    def __init__(self, service: str, settings: TracingSettings, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._ratio = settings.sample_ratio if settings.endpoint else 0.0
        self._processor: BatchSpanProcessor | None = None
        self._exporter: OTLPSpanExporter | None = None
        self._resource: Resource | None = None
        if settings.endpoint:
            self._open(service, settings)

    def begin(self, header: str, call: str) -> tuple[TraceContext, str]:
        """Where a call stands that came with this header, and the span above it.

        Where no trace comes along, one begins that is called by the call's own uid, half of whose bits are random.
        """
        above = parse_traceparent(header) if header else None
        if above is None:
            sampled = self._ratio > 0 and self._chance() < self._ratio
            trace_id = call.replace("-", "")
            return TraceContext(trace_id, trace_id[16:], sampled), ""
        if not above.sampled or self._processor is None:
            return above, above.span_id
        return above.below(secrets.token_hex(8)), above.span_id

    def ended(self, span: Span) -> None:
        """Send a span, if its trace is sampled and there is a collector."""
        if self._processor is None or not span.context.sampled:
            return
        self._processor.on_end(_readable(span, self._resource))

    def close(self) -> None:
        """Send what waits, for two seconds at most."""
        if self._processor is None or self._exporter is None:
            return
        enough = threading.Timer(_LAST_EXPORTS_S, self._exporter.shutdown)
        enough.start()
        self._processor.shutdown()  # type: ignore[no-untyped-call]
        enough.cancel()

    def _open(self, service: str, settings: TracingSettings) -> None:
        """Bring in OpenTelemetry's own exporter; whoever traces nothing does not pay for loading it."""
        from importlib.metadata import version

        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._exporter = OTLPSpanExporter(
            endpoint=settings.endpoint, insecure=settings.endpoint.startswith("http://"), timeout=_EXPORT_S
        )
        self._resource = Resource(
            {
                "service.name": service,
                "service.namespace": "tiation",
                "service.version": version("tiation"),
                "service.instance.id": secrets.token_hex(8),
            }
        )
        self._processor = BatchSpanProcessor(self._exporter, schedule_delay_millis=1000)


def _readable(span: Span, resource: Resource | None) -> Any:  # noqa: ANN401 -- OpenTelemetry's own, loaded late
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context_of(span_id: str) -> SpanContext:
        trace_id = int(span.context.trace_id, 16)
        return SpanContext(trace_id, int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        name=span.name,
        context=context_of(span.context.span_id),
        parent=context_of(span.parent) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        kind=SpanKind[span.kind.upper()],
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=span.start_ns,
        end_time=max(span.end_ns, span.start_ns),
    )
