"""A bounded memory of what was prepared recently.

It bounds both the number of values and the bytes they were made from; it does not know what they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by key; the one unused for longest goes first.

    Args:
        entries: the most values kept.
        max_bytes: the most bytes kept, counted as the caller says in `put`.
    """

    def __init__(self, entries: int, max_bytes: int) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """The value, now the most recent; None when it is not kept."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Keep a value that counts as `size` bytes; one larger than all the room is not kept."""
        if size > self._max_bytes:
            return
        before = self._values.pop(key, None)
        self._bytes += size - (before[1] if before else 0)
        self._values[key] = (value, size)
        while len(self._values) > self._entries or self._bytes > self._max_bytes:
            _, (_, freed) = self._values.popitem(last=False)
            self._bytes -= freed
