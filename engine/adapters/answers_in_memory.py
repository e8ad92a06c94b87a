"""Kept answers in this process: what was not asked for the longest goes first, of whoever has the most.

So an owner that asks without end cannot push out what others have: each keeps at least its part, all bytes by the
number of owners, as long as it asks for it now and then.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.cache.figures import StoreFigures

__all__ = ["MemoryAnswers"]

_ENTRY_BYTES = 256
"""What an entry takes besides its value: the key, the objects, its places in the tables."""
_STALE_S = 3600.0
"""What was not asked for so long goes before anything else, whosever it is."""


@dataclass(slots=True)
class _Entry:
    value: bytes
    owner: str
    asked_s: float

    @property
    def size(self) -> int:
        return len(self.value) + _ENTRY_BYTES


@dataclass(slots=True)
class _Owned:
    """What one owner has: its keys, the one first that was not asked for longest, and their bytes."""

    keys: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    size: int = 0


class MemoryAnswers:
    """Keeps answers up to a number of bytes.

    Args:
        max_bytes: all together.
        max_value_bytes: a larger answer is not kept.
        figures: counts.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        max_bytes: int,
        max_value_bytes: int,
        figures: StoreFigures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_value_bytes = max_value_bytes
        self._figures = figures
        self._clock = clock
        self._kept: OrderedDict[bytes, _Entry] = OrderedDict()
        self._owned: dict[str, _Owned] = {}
        self._bytes = 0

    async def get(self, key: bytes) -> bytes | None:
        """What is kept under a key."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        entry.asked_s = self._clock()
        self._kept.move_to_end(key)
        self._owned[entry.owner].keys.move_to_end(key)
        return entry.value

    def put(self, key: bytes, value: bytes, owner: str = "") -> None:
        """Keep something; the oldest of whoever has the most goes for it."""
        if len(value) > self._max_value_bytes or len(value) + _ENTRY_BYTES > self._max_bytes:
            self._figures.unkept("too_large")
            return
        if key in self._kept:
            self._drop(key)
        entry = self._kept[key] = _Entry(value, owner, self._clock())
        owned = self._owned.setdefault(owner, _Owned())
        owned.keys[key] = None
        owned.size += entry.size
        self._bytes += entry.size
        while self._bytes > self._max_bytes:
            self._drop(self._next_to_go())
        self._figures.holds(self._bytes)

    async def close(self) -> None:
        """Give the memory back."""
        self._kept.clear()
        self._owned.clear()
        self._bytes = 0
        self._figures.holds(0)

    def _next_to_go(self) -> bytes:
        oldest, entry = next(iter(self._kept.items()))
        if entry.asked_s + _STALE_S < self._clock():
            return oldest
        most = max(self._owned.values(), key=lambda owned: owned.size)  # of some hundred tenants: microseconds
        return next(iter(most.keys))

    def _drop(self, key: bytes) -> None:
        entry = self._kept.pop(key)
        owned = self._owned[entry.owner]
        del owned.keys[key]
        owned.size -= entry.size
        self._bytes -= entry.size
        if not owned.keys:
            del self._owned[entry.owner]
