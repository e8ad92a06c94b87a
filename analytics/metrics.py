"""What is measured: each metric's name, what of a cell it needs, and how its value is computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from analytics.cells import Cell, place_of
from analytics.facts import NANOS
from mesh.errors import InvalidError

__all__ = ["DEFAULT_METRICS", "METRICS", "Metric", "metrics_named"]

_DURATION, _RUN_DURATION, _COST = place_of("duration_us"), place_of("run_duration_us"), place_of("cost_nanos")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: how a query names it.
        title: a heading for people.
        unit: after UCUM.
        description: what it counts.
        needs: what of a cell its value is computed from.
        value: computes it; None where there is none, such as a quantile of nothing.
        estimated: true where it comes from a sketch.
    """

    name: str
    title: str
    unit: str
    description: str
    needs: tuple[str, ...]
    value: Callable[[Cell], float | None]
    estimated: bool = False


def _sum(name: str) -> Callable[[Cell], float]:
    at = place_of(name)
    return lambda cell: float(cell.sums[at])


def _quantile(sketch: str, share: float) -> Callable[[Cell], float | None]:
    def value(cell: Cell) -> float | None:
        quantiles = getattr(cell, sketch)
        return quantiles.at(share)[0] if quantiles is not None else None

    return value


def _mean_latency(cell: Cell) -> float | None:
    return cell.sums[_DURATION] / 1000 / cell.latency.count if cell.latency is not None else None


def _latencies() -> Sequence[Metric]:
    return [
        Metric(
            f"{name}-p{percent}", f"{title} p{percent}", "ms", f"{percent} % of the {what} took at most so long.",
            (sketch,), _quantile(sketch, percent / 100), estimated=True,
        )
        for name, title, what, sketch in (
            ("latency", "Latency", "calls that are no streams", "latency"),
            ("run-duration", "Run duration", "ended runs", "run_latency"),
        )
        for percent in (50, 95, 99)
    ]  # fmt: skip


_ALL = (
    Metric("calls", "Calls", "1", "Calls that were answered, well or not.", ("calls",), _sum("calls")),
    Metric("errors", "Errors", "1", "Calls that ended with another code than OK, unless the caller gave them up.",
           ("calls", "codes"), lambda cell: float(cell.errors)),
    Metric("error-ratio", "Error ratio", "1", "The share of calls that were errors.", ("calls", "codes"),
           lambda cell: cell.errors / cell.calls if cell.calls else None),
    Metric("codes", "Codes", "1", "Calls by the code that they ended with, as a map.", ("codes",), lambda _: None),
    Metric("latency-mean", "Mean latency", "ms", "How long a call that is no stream took on average.",
           ("duration_us", "latency"), _mean_latency),
    *_latencies()[:3],
    Metric("tokens-in", "Tokens in", "{token}", "Tokens that models read.", ("tokens_in",), _sum("tokens_in")),
    Metric("tokens-out", "Tokens out", "{token}", "Tokens that models wrote.", ("tokens_out",), _sum("tokens_out")),
    Metric("rows", "Rows", "{row}", "Rows that models computed.", ("usage_rows",), _sum("usage_rows")),
    Metric("cost", "Cost", "{price}", "What it cost by the prices in the settings.", ("cost_nanos",),
           lambda cell: cell.sums[_COST] / NANOS),
    Metric("principals", "Principals", "1", "Different principals on whose behalf there were calls.", ("principals",),
           lambda cell: round(cell.principals.estimate) if cell.principals is not None else 0.0, estimated=True),
    Metric("request-bytes", "Request bytes", "By", "Bytes of requests.", ("request_bytes",), _sum("request_bytes")),
    Metric("response-bytes", "Response bytes", "By", "Bytes of answers.", ("response_bytes",), _sum("response_bytes")),
    Metric("runs", "Runs", "1", "Runs that ended.", ("runs",), _sum("runs")),
    Metric("run-states", "Run states", "1", "Ended runs by state, as a map.", ("run_states",), lambda _: None),
    Metric("runs-failed", "Failed runs", "1", "Runs that ended otherwise than SUCCEEDED and CANCELLED.",
           ("runs", "run_states"),
           lambda cell: float(cell.runs - sum(cell.run_states.get(s, 0) for s in ("SUCCEEDED", "CANCELLED")))),
    Metric("run-steps", "Run steps", "1", "Steps of the runs that ended.", ("run_steps",), _sum("run_steps")),
    Metric("run-duration-mean", "Mean run duration", "ms", "How long an ended run took on average.",
           ("runs", "run_duration_us"),
           lambda cell: cell.sums[_RUN_DURATION] / 1000 / cell.runs if cell.runs else None),
    *_latencies()[3:],
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric, in the order in which they are best read."""

DEFAULT_METRICS = ("calls", "errors", "latency-p95")
"""What a query returns that names none."""


def metrics_named(names: Collection[str], field: str = "metrics") -> list[Metric]:
    """The metrics of these names.

    Raises:
        InvalidError: there is none of a name.
    """
    unknown = next((name for name in names if name not in METRICS), None)
    if unknown is not None:
        raise InvalidError(field, f"must name metrics: {', '.join(METRICS)}", value=unknown[:64])
    return [METRICS[name] for name in names]
