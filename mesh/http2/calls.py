"""gRPC calls on one connection: each is served in a task of its own, by the handlers that gRPC's servicers register.

What a handler sees of a call is `CallContext`, which stands where grpc.aio's context would.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
import grpc.aio

from mesh.http2.connection import Connection
from mesh.http2.frames import Flag, Kind, frame
from mesh.http2.messages import ANSWER_HEADERS, Head, Messages, StatusError, answer_headers, framed, trailers

__all__ = ["CallContext", "Handler", "Wire"]

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"

_AHEAD_BYTES = 256 * 1024
"""What of a stream of answers may wait for its reader before the next answer is asked for."""


class Wire(Protocol):
    """What a call knows of its connection."""

    connection: Connection
    peer: str
    auth: Mapping[str, Sequence[bytes]]

    def flush(self) -> None:
        """Send soon what there is to send."""

    async def drained(self) -> None:
        """Wait while the socket takes no more."""


class CallContext:
    """One call, as its servicer sees it: what `grpc.aio.ServicerContext` promises."""

    def __init__(self, wire: Wire, stream: int, head: Head, handler: Handler, max_bytes: int) -> None:
        self._wire = wire
        self.stream = stream
        self._head = head
        self._handler = handler
        self._messages = Messages(max_bytes, head.encoding)
        self._max_bytes = max_bytes
        self._deadline = None if head.timeout_s is None else time.monotonic() + head.timeout_s
        self._requests: deque[bytes] = deque()
        self._wrong: StatusError | None = None
        self._complete = False
        self._waiter: asyncio.Future[None] | None = None
        self._begun = False
        self._ended = False
        self._code: int = 0
        self._details = ""
        self._trailing: Metadata = ()
        self._room: asyncio.Event | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self.late = False
        self.task: asyncio.Task[None] | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The request's metadata."""
        return self._head.metadata

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Who the peer is, by its certificate."""
        return self._wire.auth

    def peer(self) -> str:
        """Where the peer is."""
        return self._wire.peer

    def time_remaining(self) -> float | None:
        """Seconds that the caller still waits; None where it did not say."""
        if self.late:  # the loop's timers may be half a millisecond early
            return 0.0
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def code(self) -> int:
        """The status that was set."""
        return self._code

    def details(self) -> str:
        """The message that was set."""
        return self._details

    def set_code(self, code: grpc.StatusCode) -> None:
        """Say how the call ends."""
        self._code = int(code.value[0])

    def set_details(self, details: str) -> None:
        """Say why."""
        self._details = details

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What follows the answer."""
        self._trailing = metadata

    def trailing_metadata(self) -> Metadata:
        """As set."""
        return self._trailing

    def done(self) -> bool:
        """Whether it is over."""
        return self._ended

    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.task is not None and self.task.cancelled()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have something called once it is over."""
        self._callbacks.append(callback)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always.
        """
        self._code, self._details, self._trailing = int(code.value[0]), details, trailing_metadata
        raise grpc.aio.AbortError("the call was ended by its servicer")

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Begin the answer with these headers."""
        if not self._begun:
            self._begun = True
            self._wire.connection.sender.headers(self.stream, answer_headers(metadata))
            self._wire.flush()

    async def read(self) -> Any:  # noqa: ANN401 -- a request, or grpc.aio's mark for the end
        """The next request of a stream."""
        async for request in self._incoming():
            return request
        return grpc.aio.EOF

    async def write(self, answer: Any) -> None:  # noqa: ANN401 -- what the handler's serializer takes
        """Send an answer of a stream; waits while the caller reads none."""
        await self.send_initial_metadata(())
        sender = self._wire.connection.sender
        sender.data(self.stream, framed(self._serialized(answer)))
        self._wire.flush()
        while sender.waiting(self.stream) > _AHEAD_BYTES and not self._ended:
            self._room = asyncio.Event()
            await self._room.wait()
        await self._wire.drained()

    def feed(self, data: bytes, *, ended: bool) -> bool:
        """Take bytes of the request's body; returns whether there is enough of it to serve the call."""
        try:
            found = self._messages.feed(data) if data else []
            self._check_end(ended=ended)
        except StatusError as error:
            self._wrong, found, ended = error, [], True
        self._requests.extend(found)
        self._complete = self._complete or ended
        # What lies in memory is taken only once it is read, but the rest of a message must be able to come.
        unread = sum(map(len, found)) if self._handler.request_streaming else 0
        self._wire.connection.taken(self.stream, len(data) - unread)
        if self._waiter is not None and (found or ended):
            self._waiter.set_result(None)
            self._waiter = None
        return ended or self._handler.request_streaming

    def _check_end(self, *, ended: bool) -> None:
        if ended and self._messages.held:
            raise StatusError(grpc.StatusCode.INTERNAL, "the request ends in the middle of a message")

    @property
    def waits(self) -> bool:
        """Whether its answers wait for their reader."""
        return self._room is not None

    def expire(self) -> None:
        """Its time is over."""
        if self.task is not None and not self._ended:
            self.late = True
            self.task.cancel()

    def widened(self) -> None:
        """Some of what waited was sent."""
        if self._room is not None and self._wire.connection.sender.waiting(self.stream) <= _AHEAD_BYTES:
            self._room.set()
            self._room = None

    async def serve(self) -> None:
        """Answer the call, whatever becomes of it."""
        try:
            await self._answer()
            block = trailers(self._code, self._details, self._trailing)
        except grpc.aio.AbortError:
            block = trailers(self._code or 2, self._details, self._trailing)
        except StatusError as error:
            block = trailers(int(error.code.value[0]), str(error))
        except asyncio.CancelledError:
            if not self.late:
                raise
            block = trailers(int(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]), "the deadline has passed")
        except Exception:  # noqa: BLE001 -- grpc says no more of it either; the interceptor has told what it was
            block = trailers(int(grpc.StatusCode.UNKNOWN.value[0]), "the call failed")
        self._end(block)

    def over(self) -> None:
        """It is over, by whatever end."""
        self._ended = True
        if self._room is not None:
            self._room.set()
        for callback in self._callbacks:
            callback(self)

    def _end(self, block: bytes) -> None:
        """Send the status, with the headers where no answer came before it."""
        if not self._begun:
            block = answer_headers(()) + block
        last = frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, self.stream, block)
        self._ended = True
        self._wire.connection.sender.end(self.stream, last)
        self._wire.connection.close(self.stream)
        self._wire.flush()

    async def _answer(self) -> None:
        handler = self._handler
        incoming: Any = self._incoming() if handler.request_streaming else self._only()
        serve: Any = {
            (False, False): handler.unary_unary,
            (False, True): handler.unary_stream,
            (True, False): handler.stream_unary,
            (True, True): handler.stream_stream,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        answers = serve(incoming, self)
        if not handler.response_streaming:
            answer = self._serialized(await answers)
            sender = self._wire.connection.sender
            if not self._begun:
                self._begun = True
                sender.headers(self.stream, ANSWER_HEADERS)
            sender.data(self.stream, framed(answer))
        elif hasattr(answers, "__aiter__"):
            async with aclosing(answers):
                async for answer in answers:
                    await self.write(answer)
        else:  # a servicer that writes by itself
            await answers

    def _serialized(self, answer: Any) -> bytes:  # noqa: ANN401 -- as above
        serialize = self._handler.response_serializer
        data: bytes = answer if serialize is None else serialize(answer)
        if len(data) > self._max_bytes:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"an answer of {len(data)} bytes; at most {self._max_bytes} are sent",
            )
        return data

    def _only(self) -> Any:  # noqa: ANN401 -- as above
        """The one request of a call that has one; it is there."""
        if self._wrong is not None:
            raise self._wrong
        if len(self._requests) != 1:
            raise StatusError(grpc.StatusCode.INTERNAL, "the call takes one request, and none or several came")
        return self._deserialized(self._requests.popleft())

    async def _incoming(self) -> AsyncIterator[Any]:
        """The requests of a stream; the caller may send on once they are taken."""
        while True:
            while self._requests:
                message = self._requests.popleft()
                self._wire.connection.taken(self.stream, len(message))
                self._wire.flush()
                yield self._deserialized(message)
            if self._wrong is not None:
                raise self._wrong
            if self._complete:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _deserialized(self, message: bytes) -> Any:  # noqa: ANN401 -- as above
        plain = self._messages.plain(message)
        deserialize = self._handler.request_deserializer
        return plain if deserialize is None else deserialize(plain)
