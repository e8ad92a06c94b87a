"""A request too large for one run: its pieces go into the queue a few at a time, so that others come in between.

How it is cut is up to the model; the queue itself is `engine.scheduler.batcher`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["AT_ONCE", "in_turn"]

Piece = TypeVar("Piece")
Result = TypeVar("Result")

AT_ONCE = 2
"""One that runs and one that is ready when the run ends: the model is never idle, and whoever comes is next but one."""


async def in_turn(
    pieces: Sequence[Piece], work: Callable[[Piece], Awaitable[Result]], *, at_once: int = AT_ONCE
) -> list[Result]:
    """The results of all pieces, in order.

    Args:
        pieces: what there is to do.
        work: does one.
        at_once: how many are under way together.

    Raises:
        Exception: what the first piece to fail raised; the others under way are cancelled, and no more are begun.
    """
    results: dict[int, Result] = {}
    todo = iter(enumerate(pieces))

    async def go_on() -> None:
        for at, piece in todo:
            results[at] = await work(piece)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(pieces))):
                group.create_task(go_on())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [results[at] for at in range(len(pieces))]
