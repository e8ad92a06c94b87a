"""Work that is not left half done when whoever asked for it goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

__all__ = ["by_its_own_task", "constructed", "to_the_end"]

T = TypeVar("T")


class _Closable(Protocol):
    def close(self) -> None:
        """Give back what it holds. Blocks."""


Made = TypeVar("Made", bound=_Closable)


async def to_the_end(work: Awaitable[T]) -> T:
    """What some work returns; when cancelled meanwhile, it ends first, and then the cancellation goes on."""
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await _over(doing)
        raise


async def by_its_own_task(work: Coroutine[Any, Any, T]) -> T:
    """What some work returns; what its task uses is free when it ends, however long whoever asked for it goes on."""
    return await asyncio.create_task(work)  # a cancellation goes on to it


async def constructed(make: Callable[[], Made]) -> Made:
    """What `make` makes, on a thread, which nothing can stop; when cancelled meanwhile, what was made is closed."""
    making = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await _over(making)
        if not making.cancelled() and making.exception() is None:
            await _over(asyncio.ensure_future(asyncio.to_thread(making.result().close)))
        raise


async def _over(doing: asyncio.Future[T]) -> None:
    """Wait until it is over, however often the waiting is cancelled."""
    while not doing.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([doing])
    if not doing.cancelled():
        doing.exception()  # it is read, so that nobody is told that nobody has read it
