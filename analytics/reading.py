"""Reads that may take long: whoever gives up has the thread stop, and holds on to what it takes up until it has.

What is read is the caller's; in which threads is `mesh.db`'s.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from mesh.db import Database, Transaction

__all__ = ["ReadStoppedError", "Stop", "long_read"]

T = TypeVar("T")


class ReadStoppedError(Exception):
    """Nobody waits any more for what is read."""


class Stop:
    """Tells the thread of a read that nobody waits for it any more."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def tell(self) -> None:
        """Have the read end."""
        self._event.set()

    def look(self) -> None:
        """Go on, unless told otherwise.

        Raises:
            ReadStoppedError: nobody waits any more.
        """
        if self._event.is_set():
            raise ReadStoppedError

    def watched(self, things: Iterable[T]) -> Iterator[T]:
        """Hand things on, and look before each."""
        for thing in things:
            self.look()
            yield thing


async def long_read(database: Database, work: Callable[[Transaction, Stop], T]) -> T:
    """Read as `Database.read` does; whoever is cancelled leaves when the thread has ended, not before.

    Args:
        database: what is read.
        work: runs in the thread, and looks at its `Stop` for every row.
    """
    stop = Stop()

    def run(transaction: Transaction) -> T:
        stop.look()
        return work(transaction, stop)

    reading = asyncio.create_task(database.read(run))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        stop.tell()
        while not reading.done():
            with suppress(asyncio.CancelledError):  # who is cancelled once more waits all the same
                await asyncio.wait((reading,))
        with suppress(asyncio.CancelledError, Exception):  # nobody is left to hear how it ended
            reading.result()
        raise
