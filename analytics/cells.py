"""Cells: what one series came to in one bucket. They add up in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from analytics.facts import Fact
from analytics.sketches import Distinct, Quantiles

__all__ = ["SUMS", "Cell", "Gathered", "place_of"]

SUMS = (
    "calls", "duration_us", "tokens_in", "tokens_out", "usage_rows", "cost_nanos", "request_bytes", "response_bytes",
    "runs", "run_steps", "run_duration_us",
)  # fmt: skip
"""The numbers of a cell that just add up, in the order in which it holds them."""

K = TypeVar("K")
_NOTHING = [0] * len(SUMS)
_OK, _CANCELLED = 0, 1
_CALLS, _RUNS = SUMS.index("calls"), SUMS.index("runs")


def place_of(name: str) -> int:
    """Where a number stands among those that just add up."""
    return SUMS.index(name)


class Gathered:
    """What a batch of facts adds to one series: sums, and the single values that sketches still have to see.

    Attributes:
        sums: in the order of `SUMS`.
        codes: calls by `google.rpc.Code`.
        run_states: ended runs by state; None where none has ended.
        durations_ms: of calls.
        run_durations_ms: of runs, likewise.
        principals: on whose behalf.
    """

    __slots__ = ("codes", "durations_ms", "principals", "run_durations_ms", "run_states", "sums")

    def __init__(self) -> None:
        self.sums = _NOTHING
        self.codes: dict[int, int] = {}
        self.run_states: dict[str, int] | None = None
        self.durations_ms: list[float] = []
        self.run_durations_ms: list[float] | None = None
        self.principals: set[str] = set()

    def add(self, fact: Fact, principal: str, cost_nanos: int) -> None:
        """Count a fact."""
        if principal:
            self.principals.add(principal)
        if fact.run_state:
            more = [0, 0, 0, 0, 0, 0, 0, 0, 1, fact.steps, round(fact.duration_ms * 1000)]
            self._add_runs({fact.run_state: 1}, [fact.duration_ms])
        else:
            duration_us = 0
            if not fact.streamed:
                duration_us = round(fact.duration_ms * 1000)
                self.durations_ms.append(fact.duration_ms)
            more = [1, duration_us, *fact.usage, cost_nanos, fact.request_bytes, fact.response_bytes, 0, 0, 0]
            self.codes[fact.code] = self.codes.get(fact.code, 0) + 1
        self.sums = more if self.sums is _NOTHING else [a + b for a, b in zip(self.sums, more, strict=True)]

    def merge(self, other: Gathered) -> None:
        """Count what another one has."""
        if self.sums is _NOTHING:
            self.sums = other.sums
        else:
            self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        _count(self.codes, other.codes)
        if other.run_states is not None:
            self._add_runs(other.run_states, other.run_durations_ms or [])
        self.durations_ms += other.durations_ms
        self.principals |= other.principals

    def _add_runs(self, states: Mapping[str, int], durations_ms: list[float]) -> None:
        """Count ends of runs, of which most batches have none."""
        if self.run_states is None:
            self.run_states, self.run_durations_ms = {}, []
        _count(self.run_states, states)
        self.run_durations_ms = [*(self.run_durations_ms or []), *durations_ms]


class Cell:
    """The totals of one series in one bucket, or of several put together.

    Attributes:
        sums: the numbers that just add up, in the order of `SUMS`.
        codes: calls by `google.rpc.Code`.
        run_states: ended runs by state.
        latency: of calls that are no streams, milliseconds; None where there was none, or where nobody asked for it.
        run_latency: of runs, likewise.
        principals: on whose behalf.
    """

    __slots__ = ("codes", "latency", "principals", "run_latency", "run_states", "sums")

    def __init__(
        self,
        sums: Sequence[int] = _NOTHING,
        codes: dict[int, int] | None = None,
        run_states: dict[str, int] | None = None,
        latency: bytes | None = None,
        run_latency: bytes | None = None,
        principals: bytes | None = None,
    ) -> None:
        self.sums = sums
        self.codes = codes if codes is not None else {}
        self.run_states = run_states if run_states is not None else {}
        self.latency = Quantiles(latency) if latency is not None else None
        self.run_latency = Quantiles(run_latency) if run_latency is not None else None
        self.principals = Distinct(principals) if principals is not None else None

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return self.sums[_CALLS]

    @property
    def runs(self) -> int:
        """How many runs ended."""
        return self.sums[_RUNS]

    @property
    def errors(self) -> int:
        """Calls that did not end well; those that the caller gave up are none of them."""
        return self.calls - self.codes.get(_OK, 0) - self.codes.get(_CANCELLED, 0)

    def add(self, more: Gathered) -> None:
        """Count what a batch gathered."""
        self.sums = [a + b for a, b in zip(self.sums, more.sums, strict=True)]
        _count(self.codes, more.codes)
        if more.durations_ms:
            if self.latency is None:
                self.latency = Quantiles()
            self.latency.add(more.durations_ms)
        if more.run_states is not None:
            _count(self.run_states, more.run_states)
            if self.run_latency is None:
                self.run_latency = Quantiles()
            self.run_latency.add(more.run_durations_ms or [])
        if more.principals:
            if self.principals is None:
                self.principals = Distinct()
            self.principals.add(more.principals)

    def merge(self, other: Cell) -> None:
        """Put another cell's totals to this one's."""
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        _count(self.codes, other.codes)
        if other.run_states:
            _count(self.run_states, other.run_states)
        if other.latency is not None:
            if self.latency is None:
                self.latency = Quantiles()
            self.latency.merge(other.latency)
        if other.run_latency is not None:
            if self.run_latency is None:
                self.run_latency = Quantiles()
            self.run_latency.merge(other.run_latency)
        if other.principals is not None:
            if self.principals is None:
                self.principals = Distinct()
            self.principals.merge(other.principals)


def _count(into: dict[K, int], more: Mapping[K, int]) -> None:
    for key, number in more.items():
        into[key] = into.get(key, 0) + number
