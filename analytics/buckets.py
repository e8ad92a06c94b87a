"""Buckets of time: minutes, hours and days in UTC, each by the second since the epoch at which it begins."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from analytics.errors import QueryTooLargeError
from mesh.errors import InvalidError

__all__ = ["MAX_BUCKETS", "Granularity", "Span", "span_of"]

MAX_BUCKETS = 11_000
"""The most that one query may span: a week of minutes, and what Prometheus allows for a range."""
_LATEST_S = 253_402_300_799
"""The last second that a timestamp can be, of the year 9999."""


class Granularity(Enum):
    """How long a bucket is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> int:
        """Its length."""
        return _SECONDS[self]

    def floor(self, moment_s: int) -> int:
        """The bucket that a moment falls into."""
        return moment_s - moment_s % _SECONDS[self]


_SECONDS = {Granularity.MINUTE: 60, Granularity.HOUR: 3600, Granularity.DAY: 86400}
_LONGEST_S = {Granularity.MINUTE: 86400, Granularity.HOUR: 60 * 86400}
"""Up to which range a granularity is chosen by itself."""


@dataclass(frozen=True, slots=True)
class Span:
    """Whole buckets: from the one that begins at `start_s` to where the last one ends, `end_s`."""

    granularity: Granularity
    start_s: int
    end_s: int

    @property
    def buckets(self) -> int:
        """How many there are."""
        return (self.end_s - self.start_s) // self.granularity.seconds


def span_of(start_s: int, end_s: int, granularity: Granularity | None) -> Span:
    """The buckets that a range touches; without a granularity, the finest that fits its length.

    Raises:
        InvalidError: the range ends before it begins.
        QueryTooLargeError: it has more buckets than one query may span.
    """
    if end_s <= start_s:
        raise InvalidError("end_time", "must be later than start_time")
    if granularity is None:
        length_s = end_s - start_s
        granularity = next((g for g, longest_s in _LONGEST_S.items() if length_s <= longest_s), Granularity.DAY)
    step = granularity.seconds
    span = Span(granularity, granularity.floor(start_s), min(granularity.floor(end_s - 1) + step, _LATEST_S))
    if span.buckets > MAX_BUCKETS:
        raise QueryTooLargeError(
            f"the range holds {span.buckets} {granularity.value}s, and one query may span {MAX_BUCKETS}; "
            "ask for a shorter range or a coarser granularity",
            buckets=span.buckets,
            limit=MAX_BUCKETS,
        )
    return span
