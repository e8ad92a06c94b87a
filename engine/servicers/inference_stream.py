"""Inferences in a stream: many at once, answered in order, within bounds of number and of bytes.

A request with several answers leaves the order with the first of them: its answers go out as they come, and nobody
waits behind it. A client that never reads what it is answered holds no more than that: nothing further is read from it.
How one request is answered is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeAlias

from inference import grpc_service_pb2 as pb

__all__ = ["Tell", "answers_of"]

_MOST_REQUESTS = 64
"""Requests of one stream that are worked on at once."""
_MOST_BYTES = 32 * 1024 * 1024
"""What these and their answers may come to together; one alone may be larger."""
_FIRST = _MOST_BYTES // 8
"""What an answer is taken to come to while none has come."""

Tell: TypeAlias = Callable[[pb.ModelStreamInferResponse], Awaitable[None]]
"""Gives an answer that is not the request's last; returns once it is handed over."""
_Work: TypeAlias = Callable[[pb.ModelInferRequest, Tell], Awaitable[pb.ModelStreamInferResponse]]
_Outcome: TypeAlias = pb.ModelStreamInferResponse | BaseException | None
"""An answer; what ends the stream; or None, where the request has left its place in the order."""


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
        """A request's last answer, of so many bytes, has been handed over."""
        async with self._left:
            self._requests -= 1
            self._bytes -= weight
            self._expected = max(size, self._expected // 2)
            self._left.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._requests < _MOST_REQUESTS and self._bytes + size + self._expected <= _MOST_BYTES


class _Place:
    """Where an outcome goes out, after all places before it.

    Args:
        weight: what its request is counted as, where this is its last answer; else 0.
        over: set once it has gone out; None where nobody waits for that.
    """

    __slots__ = ("outcome", "over", "weight")

    def __init__(self, weight: int, over: asyncio.Event | None = None) -> None:
        self.weight = weight
        self.over = over
        self.outcome: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()


class _Stream:
    """The requests of one stream that are worked on, and the places of their answers."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._window = _Window()
        self._tasks: dict[_Place, asyncio.Task[None]] = {}
        self._open = 1  # what may still ask for a place: whoever reads requests, and each request
        self.places: asyncio.Queue[_Place | None] = asyncio.Queue()

    async def take(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        """Begin each request as soon as there is room for it."""
        try:
            async for request in requests:
                place = _Place(await self._window.enter(request.ByteSize()))
                self.places.put_nowait(place)
                self._open += 1
                self._tasks[place] = asyncio.ensure_future(self._answer(request, place))
        finally:
            self._done()

    async def handed(self, place: _Place, answer: pb.ModelStreamInferResponse) -> None:
        """An answer has gone out."""
        if place.over is not None:
            place.over.set()
        else:
            await self._window.leave(place.weight, answer.ByteSize())

    def close(self) -> None:
        """Give up whatever is under way."""
        for task in list(self._tasks.values()):
            task.cancel()

    async def _answer(self, request: pb.ModelInferRequest, place: _Place) -> None:
        try:
            self._end(place, await self._work(request, partial(self._tell, place)))
        except asyncio.CancelledError as error:
            self._end(place, error)
            raise
        except Exception as error:  # noqa: BLE001 -- it is raised where answers are taken
            self._end(place, error)

    async def _tell(self, place: _Place, answer: pb.ModelStreamInferResponse) -> None:
        """An answer that is not the last of its request, which leaves its place with the first of them."""
        if not place.outcome.done():
            place.outcome.set_result(None)
        over = asyncio.Event()
        self._put(_Place(0, over), answer)
        await over.wait()

    def _end(self, place: _Place, outcome: _Outcome) -> None:
        del self._tasks[place]
        if not place.outcome.done():
            place.outcome.set_result(outcome)
        elif not place.outcome.cancelled():  # it is where whoever waited for it has gone
            self._put(_Place(place.weight), outcome)
        self._done()

    def _put(self, place: _Place, outcome: _Outcome) -> None:
        place.outcome.set_result(outcome)
        self.places.put_nowait(place)

    def _done(self) -> None:
        self._open -= 1
        if not self._open:
            self.places.put_nowait(None)


async def answers_of(
    requests: AsyncIterator[pb.ModelInferRequest], work: _Work
) -> AsyncGenerator[pb.ModelStreamInferResponse]:
    """The answers to a stream of requests; an error that `work` raises ends it after the answers before it.

    Args:
        requests: from the client.
        work: gives the last answer to one, and tells those before it.
    """
    stream = _Stream(work)
    taking = asyncio.ensure_future(stream.take(requests))
    try:
        while (place := await stream.places.get()) is not None:
            outcome = await place.outcome
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                yield outcome
                await stream.handed(place, outcome)
        await taking
    finally:
        taking.cancel()
        stream.close()
