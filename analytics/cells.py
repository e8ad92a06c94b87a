"""Cells: what one series came to in one bucket. They add up in any order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from analytics.facts import Fact
from analytics.sketches import Distinct, Quantiles

__all__ = ["Cell", "Gathered"]

_CANCELLED = 1
K = TypeVar("K")
_SUMS = (
    "calls", "duration_us", "tokens_in", "tokens_out", "usage_rows", "cost_nanos", "request_bytes", "response_bytes",
    "runs", "run_steps", "run_duration_us",
)  # fmt: skip


class Gathered:
    """What a batch of facts adds to one series: sums, and the single values that sketches still have to see."""

    __slots__ = (*_SUMS, "codes", "durations_ms", "principals", "run_durations_ms", "run_states")

    def __init__(self) -> None:
        for name in _SUMS:
            setattr(self, name, 0)
        self.codes: dict[int, int] = {}
        self.run_states: dict[str, int] = {}
        self.durations_ms: list[float] = []
        self.run_durations_ms: list[float] = []
        self.principals: set[str] = set()

    calls: int
    duration_us: int
    tokens_in: int
    tokens_out: int
    usage_rows: int
    cost_nanos: int
    request_bytes: int
    response_bytes: int
    runs: int
    run_steps: int
    run_duration_us: int

    def add(self, fact: Fact, principal: str, cost_nanos: int) -> None:
        """Count a fact."""
        if principal:
            self.principals.add(principal)
        if fact.run_state:
            self.runs += 1
            self.run_states[fact.run_state] = self.run_states.get(fact.run_state, 0) + 1
            self.run_steps += fact.steps
            self.run_duration_us += round(fact.duration_ms * 1000)
            self.run_durations_ms.append(fact.duration_ms)
            return
        self.calls += 1
        self.codes[fact.code] = self.codes.get(fact.code, 0) + 1
        if not fact.streamed:
            self.duration_us += round(fact.duration_ms * 1000)
            self.durations_ms.append(fact.duration_ms)
        self.request_bytes += fact.request_bytes
        self.response_bytes += fact.response_bytes
        self.tokens_in += fact.usage.tokens_in
        self.tokens_out += fact.usage.tokens_out
        self.usage_rows += fact.usage.rows
        self.cost_nanos += cost_nanos


class Cell:
    """The totals of one series in one bucket, or of several put together.

    Attributes:
        sums: the numbers that just add up, by name.
        codes: calls by `google.rpc.Code`.
        run_states: ended runs by state.
        latency: of calls that are no streams, milliseconds; None where there was no call, or where nobody asked for it.
        run_latency: of runs, likewise.
        principals: on whose behalf.
    """

    __slots__ = ("codes", "latency", "principals", "run_latency", "run_states", "sums")

    def __init__(
        self,
        sums: Mapping[str, int] | None = None,
        codes: Mapping[int, int] | None = None,
        run_states: Mapping[str, int] | None = None,
        latency: bytes | None = None,
        run_latency: bytes | None = None,
        principals: bytes | None = None,
    ) -> None:
        self.sums = dict(sums) if sums is not None else dict.fromkeys(_SUMS, 0)
        self.codes = dict(codes or {})
        self.run_states = dict(run_states or {})
        self.latency = Quantiles(latency) if latency is not None else None
        self.run_latency = Quantiles(run_latency) if run_latency is not None else None
        self.principals = Distinct(principals) if principals is not None else None

    @staticmethod
    def sum_names() -> tuple[str, ...]:
        """The names of the numbers that just add up."""
        return _SUMS

    @property
    def errors(self) -> int:
        """Calls that did not end well; those that the caller gave up are none of them."""
        return self.sums["calls"] - self.codes.get(0, 0) - self.codes.get(_CANCELLED, 0)

    @property
    def weight(self) -> int:
        """How much there is of it: what decides whether a series is kept apart."""
        return self.sums["calls"] + self.sums["runs"]

    def add(self, more: Gathered) -> None:
        """Count what a batch gathered."""
        sums = self.sums
        for name in _SUMS:
            sums[name] += getattr(more, name)
        _count(self.codes, more.codes)
        _count(self.run_states, more.run_states)
        if more.durations_ms:
            self.latency = self.latency or Quantiles()
            self.latency.add(more.durations_ms)
        if more.run_durations_ms:
            self.run_latency = self.run_latency or Quantiles()
            self.run_latency.add(more.run_durations_ms)
        if more.principals:
            self.principals = self.principals or Distinct()
            self.principals.add(more.principals)

    def merge(self, other: Cell) -> None:
        """Put another cell's totals to this one's."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0) + value
        _count(self.codes, other.codes)
        _count(self.run_states, other.run_states)
        if other.latency is not None:
            self.latency = self.latency or Quantiles()
            self.latency.merge(other.latency)
        if other.run_latency is not None:
            self.run_latency = self.run_latency or Quantiles()
            self.run_latency.merge(other.run_latency)
        if other.principals is not None:
            self.principals = self.principals or Distinct()
            self.principals.merge(other.principals)


def _count(into: dict[K, int], more: Mapping[K, int]) -> None:
    for key, number in more.items():
        into[key] = into.get(key, 0) + number
