"""Inferences in a stream: many at once, answered in order, within bounds of number and of bytes.

A client that never reads what it is answered holds no more than that: nothing further is read from it. How one request
is answered is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from inference import grpc_service_pb2 as pb

__all__ = ["answers_in_order"]

_MOST_REQUESTS = 64
"""Requests of one stream that are worked on at once."""
_MOST_BYTES = 32 * 1024 * 1024
"""What these and their answers may come to together; one alone may be larger."""
_FIRST = _MOST_BYTES // 8
"""What an answer is taken to come to while none has come."""


class _Window:
    """What of a stream is under way. Answers have the size of those before them, until they are there."""

    def __init__(self) -> None:
        self._requests = 0
        self._bytes = 0
        self._expected = _FIRST
        self._left = asyncio.Condition()

    async def enter(self, size: int) -> int:
        """Wait for room for a request of so many bytes; returns what it is counted as."""
        async with self._left:
            while self._requests and not self._has_room(size):
                await self._left.wait()
            weight = size + self._expected
            self._requests += 1
            self._bytes += weight
            return weight

    async def leave(self, weight: int, size: int) -> None:
        """A request's answer, of so many bytes, has been handed over."""
        async with self._left:
            self._requests -= 1
            self._bytes -= weight
            self._expected = max(size, self._expected // 2)
            self._left.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._requests < _MOST_REQUESTS and self._bytes + size + self._expected <= _MOST_BYTES


async def answers_in_order(
    requests: AsyncIterator[pb.ModelInferRequest],
    work: Callable[[pb.ModelInferRequest], Awaitable[pb.ModelStreamInferResponse]],
) -> AsyncIterator[pb.ModelStreamInferResponse]:
    """The answers to a stream of requests; an error that `work` raises ends it after the answers before it.

    Args:
        requests: from the client.
        work: answers one.
    """
    window = _Window()
    waiting: asyncio.Queue[tuple[asyncio.Future[pb.ModelStreamInferResponse], int] | None] = asyncio.Queue()

    async def take() -> None:
        try:
            async for request in requests:
                weight = await window.enter(request.ByteSize())
                waiting.put_nowait((asyncio.ensure_future(work(request)), weight))
        finally:
            waiting.put_nowait(None)

    taking = asyncio.ensure_future(take())
    try:
        while (entry := await waiting.get()) is not None:
            task, weight = entry
            answer = await task
            yield answer
            await window.leave(weight, answer.ByteSize())
        await taking
    finally:
        taking.cancel()
        while not waiting.empty():
            if (left := waiting.get_nowait()) is not None:
                left[0].add_done_callback(_heard)
                left[0].cancel()


def _heard(task: asyncio.Future[pb.ModelStreamInferResponse]) -> None:
    """Nobody waits for it any more: its error is read here, so that it is not told to the log."""
    if not task.cancelled():
        task.exception()
