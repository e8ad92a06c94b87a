"""Requests with whoever waits for them: what they hold, and how they are answered, each once.

When they are computed is `engine.scheduler.batcher`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.scheduler.lanes import Waiting
from engine.scheduler.observer import Computed, Dispatch, Ran
from engine.scheduler.run import Item, Result

__all__ = ["Asked", "let_go", "ran_of", "settle"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Asked(Waiting, Generic[Item, Result]):
    """A request with whoever waits for it; it has no item any more once it was computed or has gone."""

    item: Item
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]
    ran: Ran | None


def ran_of(
    batch: Sequence[Asked[Item, Result]], began: float, reason: Dispatch, results: Sequence[Result]
) -> tuple[Ran, int]:
    """What is told of a run that has just ended, also to those who were in it; and how many bytes they kept."""
    ended = time.perf_counter()
    rows = size = 0
    for asked in batch:
        rows += asked.rows
        size += asked.size
    input_s, output_s = (results.input_s, results.output_s) if isinstance(results, Computed) else (0.0, 0.0)
    ran = Ran(len(batch), rows, began, ended, reason, input_s, output_s)
    for asked in batch:
        asked.ran = ran
    return ran, size


def let_go(batch: list[Asked[Item, Result]]) -> None:
    """Hold nothing of what was computed: its places in the queue are cleared when they come up."""
    for asked in batch:
        del asked.item
    batch.clear()


def settle(
    batch: Sequence[Asked[Item, Result]],
    results: Sequence[Result],
    error: Exception | None,
    here: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Hand results or the error to the callers, each on its own loop, once; `here` is the one of this thread."""

    def resolve(members: Sequence[tuple[int, Asked[Item, Result]]]) -> None:
        for at, asked in members:
            future = asked.future
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(results[at])

    if len(batch) == 1:  # the most frequent, and the most urgent
        _hand_over(batch[0].loop, here, resolve, [(0, batch[0])])
        return
    by_loop: dict[int, list[tuple[int, Asked[Item, Result]]]] = {}
    for at, asked in enumerate(batch):
        by_loop.setdefault(id(asked.loop), []).append((at, asked))
    for members in by_loop.values():
        _hand_over(members[0][1].loop, here, resolve, members)


def _hand_over(
    loop: asyncio.AbstractEventLoop, here: asyncio.AbstractEventLoop | None, resolve: Callable[[T], None], members: T
) -> None:
    """Resolve on the loop of those who wait."""
    if loop is here:
        resolve(members)
        return
    try:  # noqa: SIM105 -- three calls more, while a caller waits
        loop.call_soon_threadsafe(resolve, members)
    except RuntimeError:  # the loop is closed: nobody waits any more
        pass
