"""What follows from a profile: the best load, and the lines of the manifest that make it so.

It judges figures only, and asks nobody; they come from `cli.profiling.load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from cli.profiling.load import Measured

__all__ = ["Line", "best_of", "max_batch_of", "run_times"]


class Line(Protocol):
    """A line of a table."""

    @property
    def per_s(self) -> float:
        """What is best where it is most."""

    @property
    def slowest_ms(self) -> float:
        """What may be limited."""


L = TypeVar("L", bound=Line)

_AS_GOOD = 0.97
"""What is measured twice differs by a few percent: of lines that near to the best the quickest is taken."""
_WORTH = 0.95
_FEWEST_RUNS = 5
"""Of a batch size that was run less often nothing is said."""


def best_of(measured: Sequence[L], latency_ms: float = 0) -> L | None:
    """The line with the most rows or tokens a second whose slowest is within the limit; None where none is.

    Args:
        measured: the table.
        latency_ms: the longest p99; 0 for any.
    """
    within = [line for line in measured if not latency_ms or line.slowest_ms <= latency_ms]
    if not within:
        return None
    most = max(line.per_s for line in within)
    return min((line for line in within if line.per_s >= _AS_GOOD * most), key=lambda line: line.slowest_ms)


def run_times(batches: Mapping[int, tuple[int, int]]) -> dict[int, float]:
    """Milliseconds that a row was in the model, by rows of a run; of sizes that were run often enough.

    Args:
        batches: by rows of a run: how many runs, and how long they were in the model, nanoseconds.
    """
    return {
        rows: ns / 1e6 / runs / rows
        for rows, (runs, ns) in sorted(batches.items())
        if rows and runs >= _FEWEST_RUNS and ns > 0
    }


def max_batch_of(batches: Mapping[int, tuple[int, int]], measured: Sequence[Measured]) -> int | None:
    """The fewest rows of a run that are as good as the best: with more, requests take longer and no more are answered.

    Both must say so: the time of a row in the model, and the rows a second that clients were answered, of which some
    load with runs no larger came as near to the most as two measurements of the same do.

    Args:
        batches: as for `run_times`.
        measured: the table.

    Returns:
        None where larger runs would be better, or were not seen.
    """
    times = run_times(batches)
    if not times or not measured:
        return None
    least = min(times.values())
    worth = min(rows for rows, ms in times.items() if _WORTH * ms <= least)
    most = max(line.items_per_s for line in measured)
    if worth == max(times) or all(
        line.items_per_s < _AS_GOOD * most for line in measured if line.average_batch <= worth
    ):
        return None
    return worth
