"""The dashboard's frame: everything where there is room, and the most telling columns where there is not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from tiation.analytics.v1 import metric_pb2 as pb

from cli.top import METRICS, View, frame

AGENT = "tenants/default/agents/an-agent-with-a-rather-long-name-for-a-terminal"


def drawn(width: int, by: str = "agent", names=(AGENT, "tenants/default/agents/support-triage")) -> list[str]:
    snapshot = pb.StreamMetricsResponse()
    snapshot.start_time.FromSeconds(1_790_000_000)
    snapshot.end_time.FromSeconds(1_790_000_060)
    for name in names:
        series = snapshot.series.add(dimensions={by: name})
        for metric in METRICS:
            series.totals.values[metric] = 12345.678
    console = Console(width=width, file=io.StringIO(), no_color=True)
    console.print(frame(View("default", by), snapshot, keys=False))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def columns(lines: list[str]) -> list[str]:
    heading = next(line for line in lines if "calls" in line)
    return [word.strip() for word in heading.split("  ") if word.strip()]


def test_a_wide_terminal_shows_everything():
    found = columns(drawn(200))
    assert found == [
        "agent", "calls", "rate/s", "errors", "p50", "p95", "p99", "tokens in", "tokens out", "cost", "runs", "failed",
        "queued", "running",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("by", ["agent", "method"])
def test_a_narrow_terminal_cuts_no_figure(width, by):
    lines = drawn(width, by)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "12345" in line]
    assert len(rows) == 2
    assert not any("…" in row.split(None, 1)[1] for row in rows)  # a name may be cut, a figure never is
    shown = columns(lines)
    assert {"calls", "errors", "p95"} <= set(shown)


def test_no_terminal_is_too_narrow_for_what_matters_most():
    assert columns(drawn(48)) == ["agent", "calls", "errors", "p95", "running"]
