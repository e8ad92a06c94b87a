"""Whether a model is so quick that its runs belong on the event loop instead of a thread of its own.

To wake a thread, and to be woken by it, costs a small model's request more than the run itself: with a tiny network on
two cores it was a third of all that the service did. What runs on the loop keeps everybody else waiting, so only that
is run there which was seen to be quick, and no larger.
"""

from __future__ import annotations

__all__ = ["Quickness"]

_QUICK_S = 0.0003
"""A run as short as this is worth no thread."""
_TRIED = 30
"""So many in a row must have been."""
_SLOW_S = 0.002
"""One run as long as this, and the thread is used again; the machine may have been busy, so it is tried again then."""


class Quickness:
    """What was seen of a model's runs."""

    __slots__ = ("_in_a_row", "_rows", "_size")

    def __init__(self) -> None:
        self._in_a_row = 0
        self._rows = 0
        self._size = 0

    def note(self, took_s: float, rows: int, size: int) -> None:
        """A run took so long, for so many rows that kept so many bytes."""
        if took_s <= _QUICK_S:
            self._in_a_row += 1
            self._rows, self._size = max(self._rows, rows), max(self._size, size)
        elif took_s >= _SLOW_S or self._in_a_row < _TRIED:
            self._in_a_row = self._rows = self._size = 0

    def takes(self, rows: int, size: int) -> bool:
        """Whether a request is like those that were quick."""
        return self._in_a_row >= _TRIED and rows <= self._rows and size <= self._size
