"""Who works with a version in memory: it is given back only after them."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Uses"]


class Uses:
    """The tasks that work with one version.

    Attributes:
        last_s: when one last found it, on the monotonic clock.
    """

    def __init__(self) -> None:
        self._count = 0
        self.last_s = time.monotonic()
        self._idle: asyncio.Event | None = None  # there once somebody waits for it

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def by(self, task: asyncio.Task[object]) -> None:
        """A task works with it, until it ends: a call that found it here may ask it as long as the call lasts."""
        self.begin()
        task.add_done_callback(self.end)

    def begin(self) -> None:
        """One more works with it, until it says `end`."""
        self._count += 1
        self.last_s = time.monotonic()
        if self._idle is not None:
            self._idle.clear()

    def end(self, _: object = None) -> None:
        """One fewer."""
        self._count -= 1
        if not self._count and self._idle is not None:
            self._idle.set()

    async def over(self, within_s: float) -> None:
        """Wait until nobody works with it, or so long."""
        try:
            async with asyncio.timeout(within_s):
                await self._awaited().wait()
        except TimeoutError:
            pass

    def hurry(self) -> None:
        """Have nobody wait any longer for those who work with it."""
        self._awaited().set()

    def _awaited(self) -> asyncio.Event:
        if self._idle is None:
            self._idle = asyncio.Event()
            if not self._count:
                self._idle.set()
        return self._idle
