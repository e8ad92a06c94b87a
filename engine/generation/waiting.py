"""Answers that wait for their turn: bounded, the urgent ones first, owners by turns.

How many can be under way at once is the loop's to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from engine.errors import EngineError, QueueFullError, QueueTimeoutError
from engine.generation.sequence import SequenceState

__all__ = ["Waiting", "queue_full"]

_COMMON_PRIORITY = 1 << 33
"""Of those who say none: after all who do."""


class Waiting:
    """What waits. Whoever uses it holds the loop's lock.

    Args:
        limit: how many may wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sequences: list[SequenceState] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def every(self) -> list[SequenceState]:
        """All of them."""
        return list(self._sequences)

    def add(self, sequence: SequenceState) -> SequenceState | None:
        """Take one in; where all places are taken, the last one of the owner who has the most gives way.

        Returns:
            The one that had to give way, to be told so; None where there was room.

        Raises:
            QueueFullError: there is no room, and nobody has more than this owner.
        """
        pushed_out = None
        if len(self._sequences) >= self._limit:
            held = Counter(each.terms.owner for each in self._sequences)
            owner, most = max(held.items(), key=lambda item: item[1], default=("", 0))
            if held[sequence.terms.owner] + 1 >= most:
                raise queue_full(self._limit)
            pushed_out = next(each for each in reversed(self._sequences) if each.terms.owner == owner)
            self._sequences.remove(pushed_out)
        self._sequences.append(sequence)
        return pushed_out

    def next(self, under_way: Iterable[SequenceState]) -> SequenceState | None:
        """Whose turn it is: the most urgent; among these of the owner who has the least under way; the oldest."""
        held: Counter[str] = Counter()
        for each in under_way:
            held[each.terms.owner] += each.reserved
        return min(
            self._sequences,
            key=lambda each: (each.terms.priority or _COMMON_PRIORITY, held[each.terms.owner]),
            default=None,
        )

    def remove(self, sequence: SequenceState) -> None:
        """One goes: its turn has come, or nobody wants it."""
        self._sequences.remove(sequence)

    def sweep(self, now: float) -> list[tuple[SequenceState, EngineError | None]]:
        """Let those go that nobody wants any more or that have waited too long, each with what to tell it."""
        gone: list[tuple[SequenceState, EngineError | None]] = []
        for each in self._sequences:
            if each.cancelled:
                gone.append((each, None))
            elif each.terms.timeout_s and now - each.since > each.terms.timeout_s:
                gone.append((each, QueueTimeoutError(each.terms.timeout_s)))
        for each, _ in gone:
            self._sequences.remove(each)
        return gone

    def earliest_end(self) -> float | None:
        """When the next one will have waited too long, seconds of `time.perf_counter`."""
        ends = [each.since + each.terms.timeout_s for each in self._sequences if each.terms.timeout_s]
        return min(ends, default=None)

    def clear(self) -> list[SequenceState]:
        """All of them, gone."""
        gone, self._sequences = self._sequences, []
        return gone


def queue_full(limit: int) -> QueueFullError:
    """What those hear for whom there is no room."""
    return QueueFullError(f"{limit} answers wait for the model already; try again later", retry_after_s=1.0)
