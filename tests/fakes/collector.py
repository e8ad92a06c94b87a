"""A real OTLP collector (rotel) in front of a sink that keeps every span which the collector sends on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import rotel
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.fakes.ports import free_ports

__all__ = ["Collector", "SpanSeen", "collector"]


@dataclass(frozen=True)
class SpanSeen:
    """A span as it came out of the collector."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    start_ns: int
    end_ns: int
    failed: str
    attributes: dict[str, Any]


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Where spans arrive."""

    endpoint: str
    spans: list[SpanSeen] = field(default_factory=list)

    def Export(self, request, _context):
        """Keep spans."""
        for resource in request.resource_spans:
            service = _plain(resource.resource.attributes)["service.name"]
            self.spans += [_seen(service, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self, trace_id: str) -> list[SpanSeen]:
        """The spans of one trace, by their beginning."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns)

    def wait_for(
        self, trace_id: str, enough: Callable[[list[SpanSeen]], bool], timeout_s: float = 20
    ) -> list[SpanSeen]:
        """The spans of a trace once they are enough."""
        deadline = time.monotonic() + timeout_s
        while not enough(self.of_trace(trace_id)):
            assert time.monotonic() < deadline, self.of_trace(trace_id)
            time.sleep(0.05)
        return self.of_trace(trace_id)


def _plain(attributes) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


def _seen(service: str, span) -> SpanSeen:
    return SpanSeen(
        service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        span.start_time_unix_nano, span.end_time_unix_nano, span.status.message if span.status.code == 2 else "",
        _plain(span.attributes),
    )  # fmt: skip


@contextmanager
def collector(folder: Path) -> Iterator[Collector]:
    """Run both; stopped at the end."""
    receives, receives_http, keeps = free_ports(3)
    made = Collector(f"http://127.0.0.1:{receives}")
    sink = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, sink)
    sink.add_insecure_port(f"127.0.0.1:{keeps}")
    sink.start()
    program = Path(rotel.__file__).parent / "rotel-agent"
    command = [
        str(program), "start", "--otlp-grpc-endpoint", f"127.0.0.1:{receives}", "--otlp-http-endpoint",
        f"127.0.0.1:{receives_http}", "--exporter", "otlp", "--otlp-exporter-endpoint", f"http://127.0.0.1:{keeps}",
        "--batch-timeout", "100ms",
    ]  # fmt: skip
    with (folder / "collector.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield made
        finally:
            running.terminate()
            running.wait(timeout=10)
            sink.stop(None)
