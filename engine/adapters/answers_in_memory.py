"""Kept answers in this process: what was not asked for the longest goes first."""

from __future__ import annotations

from collections import OrderedDict

from engine.cache.figures import StoreFigures

__all__ = ["MemoryAnswers"]

_ENTRY_BYTES = 256
"""What an entry takes besides its value: the key, the objects, its place in the table."""


class MemoryAnswers:
    """Keeps answers up to a number of bytes.

    Args:
        max_bytes: all together.
        max_value_bytes: a larger answer is not kept.
        figures: counts.
    """

    def __init__(self, max_bytes: int, max_value_bytes: int, figures: StoreFigures) -> None:
        self._max_bytes = max_bytes
        self._max_value_bytes = max_value_bytes
        self._figures = figures
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    async def get(self, key: bytes) -> bytes | None:
        """What is kept under a key."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Keep something; the oldest goes for it."""
        if len(value) > self._max_value_bytes or len(value) + _ENTRY_BYTES > self._max_bytes:
            self._figures.unkept("too_large")
            return
        self._forget(self._kept.pop(key, None))
        self._kept[key] = value
        self._bytes += len(value) + _ENTRY_BYTES
        while self._bytes > self._max_bytes:
            self._forget(self._kept.popitem(last=False)[1])
        self._figures.holds(self._bytes)

    async def close(self) -> None:
        """Give the memory back."""
        self._kept.clear()
        self._bytes = 0
        self._figures.holds(0)

    def _forget(self, value: bytes | None) -> None:
        if value is not None:
            self._bytes -= len(value) + _ENTRY_BYTES
