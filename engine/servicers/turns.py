"""The steps of a sequence that come over one stream: each is begun after the one before it is answered.

Other requests of the stream do not wait. Steps that come in calls of their own are put in order by
`engine.sequences.running`, as they arrive there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """Whose turn it is, in one stream."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Event] = {}

    def take(self, sequence: str, work: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Work that is to be awaited, and waits for all that took a turn of this sequence before; `""` is none."""
        if not sequence:
            return work()
        before, over = self._last.get(sequence), asyncio.Event()
        self._last[sequence] = over
        return self._taken(sequence, before, over, work)

    async def _taken(
        self, sequence: str, before: asyncio.Event | None, over: asyncio.Event, work: Callable[[], Awaitable[T]]
    ) -> T:
        try:
            if before is not None:
                await before.wait()
            return await work()
        finally:
            over.set()
            if self._last.get(sequence) is over:
                del self._last[sequence]
