"""Versions that were put aside come back when they are asked: once for all who wait, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from engine.errors import NoRoomError, QueueFullError

__all__ = ["Recall"]

_ROOM_S = 10.0
"""How long it waits for those who work with other versions to end, so that there is room."""
_LOOK_S = 0.1
_MOST_WAITING = 4096
"""Requests that wait for versions to come back."""


class Recall:
    """Brings versions back.

    Args:
        bring: loads one that was put aside; does nothing where it is back.
    """

    def __init__(self, bring: Callable[[str], Awaitable[None]]) -> None:
        self._bring = bring
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._waiting = 0

    async def __call__(self, name: str) -> None:
        """Wait until a version is back; whoever goes away meanwhile leaves it to the others.

        Raises:
            QueueFullError: too many requests wait.
            EngineError: it cannot be loaded.
        """
        if self._waiting >= _MOST_WAITING:
            raise QueueFullError(f"{_MOST_WAITING} requests wait for models to be loaded; try again later")
        coming = self._coming.get(name)
        if coming is None:
            coming = self._coming[name] = asyncio.create_task(self._patiently(name))
            coming.add_done_callback(lambda task: self._done(name, task))
        self._waiting += 1
        try:
            await asyncio.shield(coming)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End what is on its way."""
        for coming in list(self._coming.values()):
            coming.cancel()
        await asyncio.gather(*self._coming.values(), return_exceptions=True)

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._coming.pop(name, None)
        if not task.cancelled():
            task.exception()  # it is read also where all who waited for it have gone

    async def _patiently(self, name: str) -> None:
        ends = asyncio.get_running_loop().time() + _ROOM_S
        while True:
            try:
                await self._bring(name)
            except NoRoomError:
                if asyncio.get_running_loop().time() >= ends:
                    raise
                await asyncio.sleep(_LOOK_S)
            else:
                return
