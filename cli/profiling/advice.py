"""What follows from a profile: the best load, and the lines of the manifest that make it so.

It judges figures only, and asks nobody; they come from `cli.profiling.load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cli.profiling.load import Measured

__all__ = ["best_of", "max_batch_of"]

_AS_GOOD = 0.97
"""What is measured twice differs by a few percent: of lines that near to the best the quickest is taken."""
_WORTH = 0.95
_FEWEST_RUNS = 5
"""Of a batch size that was run less often nothing is said."""


def best_of(measured: Sequence[Measured], latency_ms: float = 0) -> Measured | None:
    """The line with the most rows a second whose p99 is within the limit; None where none is.

    Args:
        measured: the table.
        latency_ms: the longest p99; 0 for any.
    """
    within = [line for line in measured if not latency_ms or line.p99_ms <= latency_ms]
    if not within:
        return None
    most = max(line.items_per_s for line in within)
    return min((line for line in within if line.items_per_s >= _AS_GOOD * most), key=lambda line: line.p99_ms)


def max_batch_of(batches: Mapping[int, tuple[int, int]]) -> int | None:
    """The fewest rows of a run that are as good as the best: with more, requests take longer and no more are answered.
    None where larger runs would be better, or were not seen.

    Args:
        batches: by rows of a run: how many runs, and how long they were in the model, nanoseconds.
    """
    speeds = {rows: rows * runs / ns for rows, (runs, ns) in batches.items() if runs >= _FEWEST_RUNS and ns > 0}
    if not speeds:
        return None
    most = max(speeds.values())
    worth = min(rows for rows, speed in speeds.items() if speed >= _WORTH * most)
    return worth if worth < max(speeds) else None
