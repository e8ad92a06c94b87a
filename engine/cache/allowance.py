"""How many bytes each owner may have written within a time, for stores that forget what is older than that.

What an owner has there is then bounded, however much it asks.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Allowance"]

_FEW = 1024
"""So many owners are remembered before those are forgotten that have not written for a while."""


class Allowance:
    """A token bucket for each owner (RFC 2697): half of the bytes at once, the other half over the time.

    Args:
        max_bytes: that one owner may write within any `within_s` seconds; 0 for any number.
        within_s: the time.
        clock: seconds that only grow.
    """

    def __init__(self, max_bytes: int, within_s: float, clock: Callable[[], float]) -> None:
        self._most = max_bytes / 2
        self._per_s = max_bytes / 2 / within_s
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, owner: str, size: int) -> bool:
        """Have so many bytes written, or none at all."""
        if not self._most:
            return True
        now = self._clock()
        left = self._left_of(owner, now)
        if size > left:
            return False
        if owner not in self._left and len(self._left) >= _FEW:
            self._left = {other: each for other, each in self._left.items() if self._left_of(other, now) < self._most}
        self._left[owner] = (left - size, now)
        return True

    def _left_of(self, owner: str, now: float) -> float:
        left, at = self._left.get(owner, (self._most, now))
        return min(self._most, left + (now - at) * self._per_s)
