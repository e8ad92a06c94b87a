"""The sockets: connections with a certificate of the mesh, their calls, and an end that loses none of them.

It takes the place of grpc.aio's server for whoever registers handlers: of an empty call's time, the larger part was
that server's own (docs/adr/0030).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from mesh.http2.calls import CallContext, Handler
from mesh.http2.connection import Connection, Limits
from mesh.http2.door import Door
from mesh.http2.frames import Ended, ErrorCode
from mesh.http2.headers import Headers
from mesh.http2.memory import Memory
from mesh.http2.messages import Head, StatusError, answer_headers, read_head, trailers
from mesh.http2.tls import ShownCertificate, identity
from mesh.svid import SvidSource

__all__ = ["Http2Server"]

_MAX_AGE_S = 600.0
_LAST_CALLS_S = 0.2
"""Between telling a peer to go elsewhere and taking no more calls of it: those on their way arrive."""
_END_S = 1.0
"""How long calls that were ended may take for it, and a peer to say that it has heard of the end of the connection."""
_HIGH_WATER = 1 << 20
_PATIENT_S = 0.02
"""A ping is answered with the next answer, or after so long or twice that: alone, it costs a small call a tenth."""
_HEADS = 16
"""So many different requests' headers are remembered for a connection."""
_KEPT_BYTES = 1 << 30
"""Of messages of all connections together that are not read or not sent yet."""


@dataclass(frozen=True, slots=True)
class _Details:
    """What an interceptor asks before it wraps a handler; ours asks for no more."""

    method: str


class Http2Server:
    """Serves registered handlers, through one interceptor.

    Args:
        interceptor: wraps every handler.
        svid: the service's certificate.
        max_message_bytes: of one message, both ways.
    """

    def __init__(self, interceptor: grpc.aio.ServerInterceptor, svid: SvidSource, max_message_bytes: int) -> None:
        self._interceptor = interceptor
        self.max_message_bytes = max_message_bytes
        self._registered: dict[str, Handler] = {}
        self.handlers: dict[str, Handler] = {}
        self._connections: set[_GrpcConnection] = set()
        self._door: Door | None = None
        self._certificate = ShownCertificate(svid)
        self.memory = Memory(_KEPT_BYTES)
        self.stopping = False

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """As below; generated code calls both."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register a service's handlers, as generated code does."""
        self._registered |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    async def listen(self, address: str) -> int:
        """Bind and serve; returns the port.

        Raises:
            OSError: the address cannot be used.
        """
        for path, handler in self._registered.items():
            wrapped = await self._wrapped(path, handler)
            if wrapped is not None:
                self.handlers[path] = wrapped
        self.stopping = False
        host, _, port = address.rpartition(":")
        self._door = Door(self._certificate.context, lambda: _GrpcConnection(self))
        return await self._door.open(host.strip("[]"), int(port))

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those under way finish for so long, then end them."""
        self.stopping = True
        if self._door is not None:
            await self._door.close()
        leaving = [asyncio.ensure_future(connection.leave(grace_s)) for connection in tuple(self._connections)]
        if leaving:
            await asyncio.gather(*leaving)

    async def _wrapped(self, path: str, handler: Handler) -> Handler | None:
        async def registered(_: grpc.HandlerCallDetails) -> Handler | None:
            return handler

        details: Any = _Details(path)
        return await self._interceptor.intercept_service(registered, details)

    def came(self, connection: _GrpcConnection) -> None:
        """A peer has shown its certificate."""
        self._connections.add(connection)

    def went(self, connection: _GrpcConnection) -> None:
        """It is gone."""
        self._connections.discard(connection)


class _GrpcConnection(asyncio.Protocol):
    """One peer: its streams are calls."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, CallContext] = {}
        self._heads: dict[Headers, Head] = {}
        self._late: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: Any = None
        self._flushing = False
        self._ended = False
        self._room: asyncio.Event | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._age: asyncio.TimerHandle | None = None
        self._patient: asyncio.TimerHandle | None = None
        self.limits = Limits()
        self.connection = Connection(self, self.limits)
        self.memory = Memory(self.limits.kept_bytes, server.memory)
        self.auth: Mapping[str, Sequence[bytes]] = {}
        self.peer = ""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 -- uvloop's own
        """The handshake is done."""
        self._transport = transport
        secure = transport.get_extra_info("ssl_object")
        self.auth = identity(secure.getpeercert(binary_form=True))
        address = transport.get_extra_info("peername") or ("", 0)
        self.peer = f"ipv6:[{address[0]}]:{address[1]}" if ":" in address[0] else f"ipv4:{address[0]}:{address[1]}"
        if secure.selected_alpn_protocol() != "h2" or self._server.stopping:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._server.came(self)
        life_s = _MAX_AGE_S * random.uniform(0.9, 1.1)  # noqa: S311 -- so that not all go at once
        self._age = self._loop.call_later(life_s, self._grow_old)
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        """The peer is gone: nobody waits for its calls."""
        self._server.went(self)
        for timer in (self._age, self._patient):
            if timer is not None:
                timer.cancel()
        self._transport = None
        for stream in tuple(self._calls):
            self.reset(stream)
            self.connection.sender.drop(stream)
        self.resume_writing()
        self._gone.set()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._ended:
            return
        try:
            self.connection.feed(data)
        except Ended as ended:
            self._ended = True
            if ended.code is not ErrorCode.NO_ERROR:
                structlog.get_logger("mesh.http2").info("connection ended", peer=self.peer, error=str(ended))
            self._send()
            if self._transport is not None:
                self._transport.close()
            return
        sender = self.connection.sender
        if sender.moved:
            self._go_on(sender.moved)
        if sender.ready:
            self.flush()
        elif sender.patient and self._patient is None:
            self._be_patient()

    def _go_on(self, moved: set[int]) -> None:
        """Let calls go on whose answers were sent, of what waited."""
        for stream in moved:
            if (call := self._calls.get(stream)) is not None:
                call.widened()
        moved.clear()

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._room = asyncio.Event()

    def resume_writing(self) -> None:
        """It does again."""
        if self._room is not None:
            self._room.set()
            self._room = None
            self.flush()

    def flush(self) -> None:
        """Send what there is at the end of this turn of the loop, all of it at once."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    @property
    def paused(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._room is not None

    async def drained(self) -> None:
        """Wait while the socket takes no more."""
        while self._room is not None:
            await self._room.wait()

    def opened(self, stream: int, headers: Headers | None, *, ended: bool) -> None:
        """A call begins."""
        if len(self._tasks) >= self.limits.streams:  # those that were taken back may still be busy ending
            self.connection.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        try:
            head = self._head(headers)
            handler = self._server.handlers.get(head.path)
            if handler is None:
                self._refuse(stream, grpc.StatusCode.UNIMPLEMENTED, "nobody serves this method here")
                return
        except StatusError as error:
            self._refuse(stream, error.code, str(error))
            return
        call = self._calls[stream] = CallContext(self, stream, head, handler, self._server.max_message_bytes)
        if head.timeout_s is not None:
            self._late[stream] = self._loop.call_later(head.timeout_s, self._expire, call)
        if (ended and call.feed(b"", ended=True)) or handler.request_streaming:
            self._serve(call)

    def received(self, stream: int, data: bytes, *, ended: bool) -> None:
        """More of a call's body."""
        call = self._calls.get(stream)
        if call is None:
            self.connection.taken(stream, len(data))
        elif call.feed(data, ended=ended) and call.task is None:
            self._serve(call)

    def reset(self, stream: int) -> None:
        """A call was taken back."""
        call = self._calls.get(stream)
        if call is not None:
            call.drop()
            if call.task is None:
                self._over(call)

    async def leave(self, grace_s: float) -> None:
        """Let the peer go elsewhere, its calls end, and close."""
        if self._transport is None:
            return
        self.connection.go_away(soon=True)
        self.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.sleep(min(_LAST_CALLS_S, grace_s / 2))
                self.connection.go_away(soon=False)
                self.flush()
                while self._tasks:
                    await asyncio.wait(tuple(self._tasks))
                await self.drained()
        self.flush_now()
        for stream in tuple(self._calls):
            self.reset(stream)
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=_END_S)
        if self._transport is not None:
            self._transport.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._gone.wait()
        if self._transport is not None:
            self._transport.abort()
            await self._gone.wait()

    def _serve(self, call: CallContext) -> None:
        """Serve a call, of which enough is there, in a task of its own."""
        task = call.task = self._loop.create_task(call.serve())
        self._tasks.add(task)

        def over(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled() and (error := ended.exception()) is not None:
                structlog.get_logger("mesh.http2").error("call not ended", exc_info=error)
            if not call.done() and not call.cancelled():
                self.connection.reset(call.stream, ErrorCode.INTERNAL_ERROR)
                self.flush()
            self._over(call)

        task.add_done_callback(over)

    def _head(self, headers: Headers | None) -> Head:
        """What a request's headers say; most requests of a peer say the same.

        Raises:
            StatusError: they are no gRPC request's, or more than is taken.
        """
        if headers is None:
            return read_head(None)
        head = self._heads.get(headers)
        if head is None:
            head = read_head(headers)
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[headers] = head
        return head

    def _over(self, call: CallContext) -> None:
        """A call is over, and forgotten."""
        self._calls.pop(call.stream, None)
        if (late := self._late.pop(call.stream, None)) is not None:
            late.cancel()
        call.over()

    def _expire(self, call: CallContext) -> None:
        """A call's time is over, be it that it has not come whole."""
        if call.task is not None:
            call.expire()
            return
        self._over(call)
        self._refuse(call.stream, grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        self.flush()

    def _refuse(self, stream: int, code: grpc.StatusCode, why: str) -> None:
        """Answer a call that is not begun with a status."""
        self.connection.refuse(stream, answer_headers(()) + trailers(int(code.value[0]), why))

    def flush_now(self) -> None:
        """Send what there is, as far as the socket takes it."""
        if self._room is None:
            self._send()

    def _flush(self) -> None:
        self._flushing = False
        self.flush_now()

    def _be_patient(self) -> None:
        answers = self.connection.sender.answers
        self._patient = self._loop.call_later(_PATIENT_S, self._flush_patient, answers)

    def _flush_patient(self, answers: int) -> None:
        """Send what waited for an answer that did not come; where one came, what waits now is younger."""
        self._patient = None
        if self.connection.sender.answers == answers:
            self.flush_now()
        elif self.connection.sender.patient:
            self._be_patient()

    def _send(self) -> None:
        if self._transport is not None and (data := self.connection.sender.take()):
            self._transport.write(data)

    def _grow_old(self) -> None:
        """A connection as old as this is begun anew, and finds the processes that have come since."""
        self._leaving = self._loop.create_task(self.leave(_MAX_AGE_S))
