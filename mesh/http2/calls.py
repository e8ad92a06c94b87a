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
import structlog

from mesh.http2.connection import Connection
from mesh.http2.frames import ErrorCode
from mesh.http2.memory import Memory
from mesh.http2.messages import ANSWER_HEADERS, Head, Message, Messages, StatusError, answer_headers, framed, trailers

__all__ = ["CallContext", "Handler", "Wire"]

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"

_AHEAD_BYTES = 256 * 1024
"""What of a stream of answers may wait for its reader before the next answer is asked for."""
_ENTRY_BYTES = 64
"""What a message costs besides its bytes, roughly."""
_SMALL_BYTES = 64 * 1024
"""Messages up to here are not counted where they are whole: as many as there may be calls are little."""
_ONE = "the call takes one request, and none or several came"


class Wire(Protocol):
    """What a call knows of its connection."""

    connection: Connection
    memory: Memory
    peer: str
    auth: Mapping[str, Sequence[bytes]]

    @property
    def paused(self) -> bool:
        """Whether the socket takes no more for now."""

    def flush(self) -> None:
        """Send soon what there is to send."""

    def flush_now(self) -> None:
        """Send it, as far as the socket takes it."""

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
        self._left = head.length
        self._requests: deque[Message] = deque()
        self._untouched = True
        self._kept = 0
        self._wrong: StatusError | None = None
        self._complete = False
        self._waiter: asyncio.Future[None] | None = None
        self._begun = False
        self._ended = False
        self._code: int = 0
        self._details = ""
        self._trailing: Metadata = ()
        self._room: asyncio.Event | None = None
        self._ahead = 0
        self._dropped = False
        self._callbacks: list[Callable[[Any], None]] = []
        self.late = False
        self.task: asyncio.Task[None] | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The request's metadata."""
        return self._head.metadata

    @property
    def texts(self) -> Mapping[str, str]:
        """Of the request's metadata what is text, by name."""
        return self._head.texts

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
        return self._dropped or self.late

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have something called once it is over."""
        self._callbacks.append(callback)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always.
        """
        self._code, self._details = int(code.value[0]), details
        self._trailing = trailing_metadata or self._trailing
        raise grpc.aio.AbortError("the call was ended by its servicer")

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Begin the answer with these headers."""
        if not self._begun:
            self._begun = True
            self._wire.connection.sender.headers(self.stream, answer_headers(metadata))
            self._wire.flush()

    async def read(self) -> Any:  # noqa: ANN401 -- a request, or grpc.aio's mark for the end
        """The next request of a stream; the caller may send on once it is taken."""
        while not self._requests:
            if self._wrong is not None:
                raise self._wrong
            if self._complete:
                return grpc.aio.EOF
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._next()
        self._wire.connection.taken(self.stream, message.fresh)
        self._wire.flush()
        return self._deserialized(message)

    async def write(self, answer: Any) -> None:  # noqa: ANN401 -- what the handler's serializer takes
        """Send an answer of a stream; waits while the caller reads none."""
        await self.send_initial_metadata(())
        await self._send(framed(self._serialized(answer)), _AHEAD_BYTES)

    def feed(self, data: bytes, *, ended: bool) -> bool:
        """Take bytes of the request's body; returns whether there is enough of it to serve the call."""
        if ended and self._untouched and self._is_all(data):
            return True
        self._untouched = False
        found: list[Message] = []
        if self._wrong is None:
            try:
                found = self._parse(data, ended=ended)
            except StatusError as error:
                self._wrong, ended = error, True
        self._requests.extend(found)
        self._complete = self._complete or ended
        # What lies in memory is taken only once it is read, but the rest of a message must be able to come.
        unread = sum([each.fresh for each in found]) if self._handler.request_streaming else 0
        self._wire.connection.taken(self.stream, len(data) - unread)
        if (found or ended) and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return ended or self._handler.request_streaming

    def _is_all(self, data: bytes) -> bool:
        """Whether this is the one request, whole; then it is taken, and not counted where it is small, as most are."""
        size = len(data)
        if size > _SMALL_BYTES or self._left not in (None, size) or self._handler.request_streaming:
            return False
        message = self._messages.whole(data)
        if message is None:
            return False
        self._requests.append(message)
        self._complete, self._untouched = True, False
        self._wire.connection.taken(self.stream, size)
        return True

    def _parse(self, data: bytes, *, ended: bool) -> list[Message]:
        """The messages that are whole now; the memory of what came is kept until it is read."""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (ended and self._left):
                raise StatusError(grpc.StatusCode.INTERNAL, "the body has not the length that its headers say")
        before = self._messages.held
        found = self._messages.feed(data)
        held = self._messages.held
        more = held - before
        for each in found:
            more += len(each.body) + _ENTRY_BYTES
        self._wire.memory.keep(more)
        self._kept += more
        if ended and held:
            raise StatusError(grpc.StatusCode.INTERNAL, "the request ends in the middle of a message")
        if not self._handler.request_streaming and len(self._requests) + len(found) > 1:
            raise StatusError(grpc.StatusCode.INTERNAL, _ONE)
        return found

    def _next(self) -> Message:
        """The oldest request that came; whoever asked for it has it now."""
        message = self._requests.popleft()
        if self._kept:
            size = len(message.body) + _ENTRY_BYTES
            self._kept -= size
            self._wire.memory.free(size)
        return message

    def drop(self) -> None:
        """Nobody waits for it any more; a call is told so once, and may take its time to end."""
        if not self._dropped and self.task is not None and not self.late and not self._ended:
            self.task.cancel()
        self._dropped = True

    def expire(self) -> None:
        """Its time is over."""
        if not self._dropped and self.task is not None and not self._ended:
            self.late = True
            self.task.cancel()

    def widened(self) -> None:
        """Some of what waited was sent."""
        if self._room is not None and self._wire.connection.sender.waiting(self.stream) <= self._ahead:
            self._room.set()
            self._room = None

    async def serve(self) -> None:
        """Answer the call, whatever becomes of it; it is over once all of the answer is on its way."""
        try:
            block = await self._outcome()
            if self._ended:
                return
            await self._sent(0)
        except asyncio.CancelledError:
            if not self.late:
                raise
            block = trailers(int(grpc.StatusCode.DEADLINE_EXCEEDED.value[0]), "the deadline has passed")
        self._ended = True
        if self._wire.connection.sender.waiting(self.stream):
            self._wire.connection.reset(self.stream, ErrorCode.CANCEL)
        else:  # the headers, too, where no answer came before
            self._wire.connection.end(self.stream, block if self._begun else answer_headers(()) + block)
        self._wire.flush()

    async def _outcome(self) -> bytes:
        """Have the call answered; returns its trailers, unless they have gone with a whole answer."""
        try:
            await self._answer()
        except grpc.aio.AbortError:
            self._code = self._code or int(grpc.StatusCode.UNKNOWN.value[0])
        except StatusError as error:
            return trailers(int(error.code.value[0]), str(error))
        except Exception:  # noqa: BLE001 -- grpc says no more of it either; the interceptor has told what it was
            return trailers(int(grpc.StatusCode.UNKNOWN.value[0]), "the call failed")
        return b"" if self._ended else trailers(self._code, self._details, self._trailing)

    def over(self) -> None:
        """It is over, by whatever end: what was not read of it is forgotten."""
        self._ended = True
        if self._handler.request_streaming and self._requests:
            self._wire.connection.taken(self.stream, sum([each.fresh for each in self._requests]))
        self._requests.clear()
        if self._kept:
            self._wire.memory.free(self._kept)
            self._kept = 0
        for callback in self._callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 -- the others are called all the same
                structlog.get_logger("mesh.http2").exception("callback of a call failed")

    async def _send(self, data: bytes, ahead: int) -> None:
        """Send an answer, and wait until no more than so many bytes of it wait."""
        wire, size = self._wire, len(data)
        if size <= _SMALL_BYTES:
            wire.connection.sender.data(self.stream, data)
            wire.flush()
            await self._sent(ahead)
            return
        wire.memory.keep(size)
        try:
            wire.connection.sender.data(self.stream, data)
            del data
            wire.flush_now()
            await self._sent(ahead)
        finally:
            wire.memory.free(size)

    async def _sent(self, ahead: int) -> None:
        """Wait until no more than so many bytes wait, and the socket takes some."""
        sender = self._wire.connection.sender
        while sender.waiting(self.stream) > ahead:
            self._ahead, self._room = ahead, asyncio.Event()
            await self._room.wait()
        if self._wire.paused:
            await self._wire.drained()

    async def _answer(self) -> None:
        handler = self._handler
        serve: Any
        if handler.request_streaming:
            serve = handler.stream_stream if handler.response_streaming else handler.stream_unary
            answers = serve(self._incoming(), self)
        else:
            serve = handler.unary_stream if handler.response_streaming else handler.unary_unary
            answers = serve(self._only(), self)
        if not handler.response_streaming:
            await self._answer_once(await answers)
        elif hasattr(answers, "__aiter__"):
            async with aclosing(answers):
                async for answer in answers:
                    await self.write(answer)
        else:  # a servicer that writes by itself
            await answers

    async def _answer_once(self, answer: Any) -> None:  # noqa: ANN401 -- what the handler's serializer takes
        """Send the one answer: at once and whole where it is small and the peer takes it, as most are."""
        data, wire = framed(self._serialized(answer)), self._wire
        head = b"" if self._begun else ANSWER_HEADERS
        if len(data) <= _SMALL_BYTES and not wire.paused:
            block = trailers(self._code, self._details, self._trailing)
            if wire.connection.answer(self.stream, head, data, block):
                self._begun = self._ended = True
                wire.flush()
                return
        if head:
            self._begun = True
            wire.connection.sender.headers(self.stream, head)
        await self._send(data, 0)

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
            raise StatusError(grpc.StatusCode.INTERNAL, _ONE)
        return self._deserialized(self._next())

    async def _incoming(self) -> AsyncIterator[Any]:
        """The requests of a stream."""
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    def _deserialized(self, message: Message) -> Any:  # noqa: ANN401 -- as above
        plain = self._messages.plain(message)
        deserialize = self._handler.request_deserializer
        return plain if deserialize is None else deserialize(plain)
