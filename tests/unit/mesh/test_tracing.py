"""Which trace a call belongs to, what is sampled, and what a span says; a collector that is away hinders nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from mesh.config import TracingSettings
from mesh.tracing import Span, TraceContext, Tracer, derived_span_id, parse_traceparent
from tests.fakes.collector import collector

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALL = "019abcde-0000-7000-8000-00000000beef"


@pytest.mark.parametrize(
    "header",
    [
        "", "00", f"00-{TRACE}-{ABOVE}", f"ff-{TRACE}-{ABOVE}-01", f"00-{'0' * 32}-{ABOVE}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{ABOVE}-01", f"00-{TRACE}-{ABOVE}-1",
        f" 00-{TRACE}-{ABOVE}-01",
    ],
)  # fmt: skip
def test_a_malformed_header_is_as_none(header: str):
    assert parse_traceparent(header) is None


def test_a_header_goes_in_and_out_unchanged():
    for flags in ("00", "01"):
        context = parse_traceparent(f"00-{TRACE}-{ABOVE}-{flags}")
        assert context == TraceContext(TRACE, ABOVE, flags == "01")
        assert context.header() == f"00-{TRACE}-{ABOVE}-{flags}"


def test_other_flags_than_the_first_are_read_past():
    assert parse_traceparent(f"00-{TRACE}-{ABOVE}-03") == TraceContext(TRACE, ABOVE, sampled=True)
    assert parse_traceparent(f"00-{TRACE}-{ABOVE}-02") == TraceContext(TRACE, ABOVE, sampled=False)


def test_without_a_collector_nothing_is_sampled_and_what_came_goes_on():
    tracer = Tracer("engine", TracingSettings(sample_ratio=1.0), chance=lambda: 0.0)
    begun, above = tracer.begin("", CALL)
    assert (begun.sampled, above) == (False, "")
    assert parse_traceparent(begun.header()) == begun
    assert (begun.trace_id, begun.span_id) == (CALL.replace("-", ""), CALL[19:].replace("-", ""))
    assert tracer.begin(f"00-{TRACE}-{ABOVE}-01", CALL)[0] == TraceContext(TRACE, ABOVE, sampled=True)


def test_a_trace_that_begins_here_is_sampled_by_chance_and_one_that_came_as_its_caller_says(tmp_path):
    chances = iter([0.05, 0.15])
    with collector(tmp_path) as receives:
        tracer = Tracer("engine", TracingSettings(endpoint=receives.endpoint), chance=lambda: next(chances))
        assert [tracer.begin("", CALL)[0].sampled for _ in range(2)] == [True, False]
        below, above = tracer.begin(f"00-{TRACE}-{ABOVE}-01", CALL)
        assert (below.trace_id, below.sampled, above) == (TRACE, True, ABOVE)
        assert below.span_id != ABOVE
        assert not tracer.begin(f"00-{TRACE}-{ABOVE}-00", CALL)[0].sampled
        tracer.close()


def a_span(error: str = "") -> Span:
    now = time.time_ns()
    context = TraceContext(TRACE, derived_span_id("run/step"), sampled=True)
    return Span("step", "internal", context, ABOVE, now - 5_000_000, now, {"tiation.run": "r", "rows": 3}, error)


def test_a_span_arrives_at_a_collector_as_it_was(tmp_path):
    with collector(tmp_path) as receives:
        tracer = Tracer("orchestrator", TracingSettings(endpoint=receives.endpoint))
        span = a_span(error="TIMEOUT")
        tracer.ended(span)
        (seen,) = receives.wait_for(TRACE, lambda spans: len(spans) == 1)
        tracer.close()
    assert (seen.service, seen.name, seen.parent, seen.failed) == ("orchestrator", "step", ABOVE, "TIMEOUT")
    assert (seen.span_id, seen.start_ns, seen.end_ns) == (span.context.span_id, span.start_ns, span.end_ns)
    assert seen.attributes == {"tiation.run": "r", "rows": 3}


def test_a_collector_that_is_away_hinders_nobody():
    tracer = Tracer("engine", TracingSettings(endpoint="http://127.0.0.1:9"))
    began = time.monotonic()
    for _ in range(5000):
        tracer.ended(a_span())
    assert time.monotonic() - began < 5
    tracer.close()
    assert time.monotonic() - began < 15


def test_a_log_line_names_the_trace_and_the_span_that_it_was_written_in():
    program = f"""
import structlog
from mesh.telemetry import set_up_logs
from mesh.tracing import TraceContext, current_trace
set_up_logs("engine", "info")
structlog.get_logger().info("outside")
current_trace.set(TraceContext("{TRACE}", "{ABOVE}", sampled=False))
structlog.get_logger().info("inside")
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    outside, inside = (json.loads(line) for line in said.splitlines())
    assert "trace.id" not in outside
    assert (inside["trace.id"], inside["span.id"]) == (TRACE, ABOVE)
