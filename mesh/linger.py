"""How long a batch lingers for more to come: a moment after a quiet time, longer while things keep coming.

A batch costs nearly the same whether it holds one thing or a hundred: commits, streams, code that has gone cold.
"""

from __future__ import annotations

__all__ = ["Linger"]


class Linger:
    """The linger of one row of batches.

    Args:
        shortest_s: after a quiet time.
        longest_s: while things keep coming; each batch lingers twice as long as the one before until then.
    """

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._last_s = shortest_s

    def next_s(self, waited_s: float) -> float:
        """How long the batch lingers that has begun now.

        Args:
            waited_s: from the end of the batch before until something came; more than that one lingered is quiet.
        """
        busy = waited_s < self._last_s
        self._last_s = min(2 * self._last_s, self._longest_s) if busy else self._shortest_s
        return self._last_s
