"""What one model takes on, and in what order: the settings of its queue and its batches.

What comes of them is decided in `engine.scheduler.queue`; a manifest's own words for them are in `engine.manifest`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from engine.scheduler.terms import Terms

__all__ = ["BUCKETS", "BatchPolicy", "Level"]

BUCKETS = (*range(8, 64, 8), *(step << octave for octave in range(4, 14) for step in range(4, 8)))
"""Lengths that requests are sorted into where the model names none: 8, 16, … 64, 80, 96, 112, 128, 160, … 114688."""


@dataclass(frozen=True, slots=True)
class Level:
    """One priority.

    Attributes:
        max_waiting: how many requests may wait at it; 0 means as many as at all.
        timeout_s: how long they may wait where they do not say; 0 means as long as the model says.
    """

    max_waiting: int = 0
    timeout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How much a model takes on, and how its batches are cut.

    Attributes:
        max_rows: the most rows in a batch; a request with more runs alone.
        max_waiting: how many requests may wait.
        max_waiting_bytes: how large they may be together; one is taken whatever its size where none waits.
        max_padded: the most places, rows times the longest, in a batch of padded requests; 0 for no such bound.
        max_delay_s: how long a request waits for others while the model is idle; 0 for not at all.
        preferred_rows: with so many rows nothing is waited for any longer, ascending; without any `max_rows` are.
        timeout_s: how long a request may wait where neither it nor its level says; 0 for as long as it takes.
        levels: the priorities, the most urgent first.
        default_level: the priority of a request that names none, counted from 1.
        buckets: lengths that requests are sorted into, ascending; all longer ones are of one more kind.
        run_places: what a run costs besides its places, in places: in the time, MiniLM computes 26 on two cores.
        instances: a session for each of these devices; an empty one stands for the engine's own. Without any there is
            one, and a second one once requests wait for slow runs.
    """

    max_rows: int
    max_waiting: int
    max_waiting_bytes: int = 256 << 20
    max_padded: int = 0
    max_delay_s: float = 0.0
    preferred_rows: tuple[int, ...] = ()
    timeout_s: float = 0.0
    levels: tuple[Level, ...] = (Level(),)
    default_level: int = 1
    buckets: tuple[int, ...] = BUCKETS
    run_places: int = 32
    instances: tuple[str, ...] = ()

    def admit(self, terms: Terms) -> tuple[int, float]:
        """At which level a request waits, from 0, and for how long it may, seconds; 0 for as long as it takes.

        What is less urgent than the last level waits at the last one.
        """
        level = min(terms.priority or self.default_level, len(self.levels)) - 1
        return level, terms.timeout_s or self.levels[level].timeout_s or self.timeout_s

    def bucket_of(self, length: int) -> int:
        """The number of the bucket that takes a length."""
        return bisect_left(self.buckets, length)
