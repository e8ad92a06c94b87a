"""The live dashboard's frames: what a snapshot of the last minutes looks like in a terminal, and as JSON.

Where snapshots come from and what keys do is `cli.commands.top`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text
from tiation.analytics.v1 import metric_pb2 as pb

__all__ = ["GROUPINGS", "METRICS", "WINDOWS", "View", "as_document", "frame"]

GROUPINGS = {"a": "agent", "m": "model", "c": "connection", "t": "method", "s": "service", "p": "principal"}
"""What can be kept apart, by the key that asks for it."""
WINDOWS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600}
METRICS = (
    "calls", "errors", "latency-p50", "latency-p95", "latency-p99", "tokens-in", "tokens-out", "cost", "runs",
    "runs-failed",
)  # fmt: skip
_LONGEST_NAME = 48
_LEAST_NAME = 24
"""A name is cut to this before a column goes."""
_DISPENSABLE = ("cost", "tokens out", "tokens in", "p50", "p99", "runs", "failed", "rate/s", "queued")
"""The columns that go where the terminal is narrow, in this order."""


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at.

    Attributes:
        tenant: whose figures.
        by: what is kept apart.
        window: how far back, a key of `WINDOWS`.
        filter: which calls, after AIP-160.
        limit: at most so many rows.
    """

    tenant: str
    by: str = "agent"
    window: str = "1m"
    filter: str = ""
    limit: int = 20

    def request(self, after_sequence: int = 0) -> pb.StreamMetricsRequest:
        """The request for its snapshots."""
        request = pb.StreamMetricsRequest(
            parent=f"tenants/{self.tenant}",
            metrics=METRICS,
            group_by=[self.by],
            filter=self.filter,
            limit=self.limit,
            after_sequence=after_sequence,
        )
        request.window.FromSeconds(WINDOWS[self.window])
        return request


def as_document(view: View, snapshot: pb.StreamMetricsResponse) -> dict[str, Any]:
    """A snapshot as a JSON document: one object a row, with rates a second."""
    seconds = _seconds(snapshot)
    live = {runs.agent: dict(runs.states) for runs in snapshot.live_runs}
    rows = [
        {view.by: series.dimensions[view.by], **_row(series.totals, seconds)}
        | ({"live_runs": live.pop(series.dimensions["agent"], {})} if view.by == "agent" else {})
        for series in snapshot.series
    ]
    if view.by == "agent":
        rows += [{"agent": agent, **_row(pb.Values(), seconds), "live_runs": states} for agent, states in live.items()]
    return {
        "time": snapshot.end_time.ToJsonString(),
        "since": snapshot.start_time.ToJsonString(),
        "tenant": view.tenant,
        "by": view.by,
        "rows": rows,
        "omitted_rows": snapshot.omitted_series,
        "total": _row(snapshot.totals, seconds) | {"live_runs": _all_live(snapshot)},
    }


def frame(
    view: View, snapshot: pb.StreamMetricsResponse | None, said: str = "", *, keys: bool = True
) -> RenderableType:
    """A snapshot as it is drawn.

    Args:
        view: what is looked at.
        snapshot: the newest one; None while there is none.
        said: what went wrong, to be seen below.
        keys: false to leave out what the keys do.
    """
    parts: list[RenderableType] = []
    if snapshot is None:
        parts.append(Text(f"{view.tenant}: waiting for figures …"))
    else:
        document = as_document(view, snapshot)
        parts += [_heading(view, document), _Table(view, document)]
        if snapshot.omitted_series:
            parts.append(Text(f"and {snapshot.omitted_series} more", style="dim"))
    if said:
        parts.append(Text(said, style="red"))
    if keys:
        chosen = "  ".join(name.replace(key, f"[{key}]", 1) for key, name in GROUPINGS.items())
        parts.append(Text(f"{chosen}   [w]indow {view.window}   [q]uit", style="dim"))
    return Group(*parts)


def _heading(view: View, document: dict[str, Any]) -> Text:
    moment = datetime.fromisoformat(document["time"]).astimezone(UTC)
    total, live = document["total"], document["total"]["live_runs"]
    runs = ", ".join(f"{number} {state.lower().replace('_', ' ')}" for state, number in sorted(live.items())) or "none"
    return Text(
        f"{view.tenant}  {moment:%H:%M:%S} UTC  last {view.window}  {_number(total['rate'])}/s  "
        f"{total['errors']} errors  p95 {_milliseconds(total['p95_ms'])}  live runs: {runs}"
    )


class _Table:
    """The rows of a snapshot, without the columns that a narrow terminal has no room for."""

    def __init__(self, view: View, document: dict[str, Any]) -> None:
        self._by = view.by
        self._names = [_short(view.by, row[view.by]) for row in document["rows"]]
        self._failed = [bool(row["errors"]) for row in document["rows"]]
        self._columns = _columns(view, document["rows"])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw them as wide as they may be."""
        columns = dict(self._columns)
        least = min(_LEAST_NAME, max(map(len, (self._by, *self._names))))
        for heading in _DISPENSABLE:
            if options.max_width - _width(columns) >= least:
                break
            columns.pop(heading, None)
        room = max(1, min(_LONGEST_NAME, options.max_width - _width(columns)))
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=False)
        table.add_column(self._by, no_wrap=True, overflow="ellipsis", max_width=room)
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for number, (name, failed) in enumerate(zip(self._names, self._failed, strict=True)):
            table.add_row(name, *(cells[number] for cells in columns.values()), style="red" if failed else "")
        yield table


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """What is not the names': the columns, and the gap on both sides of each and of the names."""
    return 2 + sum(max(map(len, (heading, *cells))) + 2 for heading, cells in columns.items())


def _columns(view: View, rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """What stands beside the names: the cells of each column, by its heading."""
    columns = {
        "calls": [str(row["calls"]) for row in rows],
        "rate/s": [_number(row["rate"]) for row in rows],
        "errors": [_errors(row) for row in rows],
        **{f"p{percent}": [_milliseconds(row[f"p{percent}_ms"]) for row in rows] for percent in (50, 95, 99)},
        "tokens in": [_count(row["tokens_in"]) for row in rows],
        "tokens out": [_count(row["tokens_out"]) for row in rows],
        "cost": [_number(row["cost"]) for row in rows],
        "runs": [str(row["runs"]) for row in rows],
        "failed": [str(row["runs_failed"]) for row in rows],
    }
    if view.by == "agent":
        live = [row.get("live_runs", {}) for row in rows]
        columns["queued"] = [str(sum(states.values()) - states.get("RUNNING", 0)) for states in live]
        columns["running"] = [str(states.get("RUNNING", 0)) for states in live]
    return columns


def _row(values: pb.Values, seconds: float) -> dict[str, Any]:
    found = values.values
    return {
        "calls": int(found.get("calls", 0)),
        "rate": round(found.get("calls", 0) / seconds, 3),
        "errors": int(found.get("errors", 0)),
        "p50_ms": found.get("latency-p50"),
        "p95_ms": found.get("latency-p95"),
        "p99_ms": found.get("latency-p99"),
        "tokens_in": int(found.get("tokens-in", 0)),
        "tokens_out": int(found.get("tokens-out", 0)),
        "cost": found.get("cost", 0.0),
        "runs": int(found.get("runs", 0)),
        "runs_failed": int(found.get("runs-failed", 0)),
    }


def _all_live(snapshot: pb.StreamMetricsResponse) -> dict[str, int]:
    found: dict[str, int] = {}
    for runs in snapshot.live_runs:
        for state, number in runs.states.items():
            found[state] = found.get(state, 0) + number
    return found


def _seconds(snapshot: pb.StreamMetricsResponse) -> float:
    length_us = snapshot.end_time.ToMicroseconds() - snapshot.start_time.ToMicroseconds()
    return max(1.0, length_us / 1_000_000)


def _short(by: str, name: str) -> str:
    """A name as people know it: the last part of a resource's, a method without its package."""
    if not name:
        return "(none)"
    if by == "method":
        return name.rsplit(".", 1)[-1]
    return name if name.startswith("tenants/system/") else name.rsplit("/", 1)[-1]


def _errors(row: dict[str, Any]) -> str:
    if not row["errors"]:
        return "0"
    return f"{row['errors']} ({100 * row['errors'] / row['calls']:.0f}%)" if row["calls"] else str(row["errors"])


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def _count(value: int) -> str:
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if value >= 10 * size:
            return f"{value / size:.1f}{unit}"
    return str(value)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
