"""Calls that last: they are asked again, several times a second, whether they may go on, and ended when they may not.

What may go on is `mesh.stages.access`'s to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mesh.call import Call
from mesh.errors import TiationError

__all__ = ["EVERY_S", "LastingCall", "LastingCalls"]

EVERY_S = 0.25
"""Seconds between two questions: a revocation has a second to arrive and to be heeded."""


class LastingCall:
    """A call under way, and the task that serves it.

    Attributes:
        inside: true while our own code runs or waits; false while gRPC hands an answer over, which is not interrupted.
    """

    __slots__ = ("call", "inside", "task")

    def __init__(self, call: Call, task: asyncio.Task[object]) -> None:
        self.call = call
        self.task = task
        self.inside = True

    def end(self, error: TiationError) -> None:
        """End the call: at once, or as soon as the answer under way is handed over."""
        self.call.ended = error
        if self.inside:
            self.task.cancel()

    def go_on(self) -> None:
        """Note that an answer was handed over.

        Raises:
            TiationError: the call was ended meanwhile.
        """
        if self.call.ended is not None:
            raise self.call.ended
        self.inside = True


class LastingCalls:
    """All of them in this process.

    Args:
        ask: raises what ends a call that may not go on.
    """

    def __init__(self, ask: Callable[[Call], None]) -> None:
        self._ask = ask
        self._calls: set[LastingCall] = set()

    @contextmanager
    def watch(self, call: Call) -> Iterator[LastingCall]:
        """Ask about a call as long as the block runs."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- calls are served in tasks
        lasting = LastingCall(call, task)
        self._calls.add(lasting)
        try:
            yield lasting
        finally:
            self._calls.discard(lasting)

    async def run(self) -> None:
        """Ask about every call again and again, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            for lasting in tuple(self._calls):
                if lasting.call.ended is not None:
                    continue
                try:
                    self._ask(lasting.call)
                except TiationError as error:
                    lasting.end(error)
