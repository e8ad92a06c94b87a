"""The sockets: connections with a certificate of the mesh, their calls, and an end that loses none of them.

It takes the place of grpc.aio's server for whoever registers handlers: of an empty call's time, the larger part was
that server's own (docs/adr/0030).
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mesh.http2.calls import CallContext, Handler
from mesh.http2.connection import Connection, Limits
from mesh.http2.frames import Ended, ErrorCode, Flag, Kind, frame
from mesh.http2.messages import StatusError, answer_headers, read_head, trailers
from mesh.svid import Svid, SvidSource

__all__ = ["Http2Server"]

_HANDSHAKE_S = 10.0
_MAX_AGE_S = 600.0
_LAST_CALLS_S = 0.2
"""Between telling a peer to go elsewhere and taking no more calls of it: those on their way arrive."""
_END_S = 1.0
"""How long calls that were ended may take for it, and a peer to say that it has heard of the end of the connection."""
_HIGH_WATER = 1 << 20


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
        self._svid = svid
        self.max_message_bytes = max_message_bytes
        self._registered: dict[str, Handler] = {}
        self.handlers: dict[str, Handler] = {}
        self._connections: set[_GrpcConnection] = set()
        self._listening: asyncio.Server | None = None
        self._context, self._shown = _tls(svid.current), svid.current

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
        host, _, port = address.rpartition(":")
        self._listening = await asyncio.get_running_loop().create_server(
            self._connection,
            host.strip("[]") or None,
            int(port),
            ssl=self._context,
            ssl_handshake_timeout=_HANDSHAKE_S,
            backlog=1024,
        )
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those under way finish for so long, then end them."""
        if self._listening is not None:
            self._listening.close()
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

    def _connection(self) -> _GrpcConnection:
        """One is coming in; it is shown the certificate that holds now."""
        if self._svid.current is not self._shown:
            self._shown = self._svid.current
            _show(self._context, self._shown)
        return _GrpcConnection(self)


class _GrpcConnection(asyncio.Protocol):
    """One peer: its streams are calls."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, CallContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: Any = None
        self._flushing = False
        self._room: asyncio.Event | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._age: asyncio.TimerHandle | None = None
        self.limits = Limits()
        self.connection = Connection(self, self.limits)
        self.auth: Mapping[str, Sequence[bytes]] = {}
        self.peer = ""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 -- uvloop's own
        """The handshake is done."""
        self._transport = transport
        secure = transport.get_extra_info("ssl_object")
        self.auth = _identity(secure.getpeercert(binary_form=True))
        address = transport.get_extra_info("peername") or ("", 0)
        self.peer = f"ipv4:{address[0]}:{address[1]}"
        if secure.selected_alpn_protocol() != "h2":
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
        if self._age is not None:
            self._age.cancel()
        self.resume_writing()
        for call in tuple(self._calls.values()):
            self._drop(call)
        self._calls.clear()
        self._transport = None
        self._gone.set()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            self.connection.feed(data)
        except Ended as ended:
            if ended.code is not ErrorCode.NO_ERROR:
                structlog.get_logger("mesh.http2").info("connection ended", peer=self.peer, error=str(ended))
            self._send()
            if self._transport is not None:
                self._transport.close()
            return
        for call in self._waiting():
            call.widened()
        self.flush()

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

    async def drained(self) -> None:
        """Wait while the socket takes no more."""
        while self._room is not None:
            await self._room.wait()

    def opened(self, stream: int, headers: list[tuple[bytes, bytes]] | None, *, ended: bool) -> None:
        """A call begins."""
        if len(self._tasks) >= self.limits.streams:  # those that were taken back may still be busy ending
            self.connection.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        try:
            head = read_head(headers)
            handler = self._server.handlers.get(head.path)
            if handler is None:
                self._refuse(stream, grpc.StatusCode.UNIMPLEMENTED, "nobody serves this method here")
                return
        except StatusError as error:
            self._refuse(stream, error.code, str(error))
            return
        call = self._calls[stream] = CallContext(self, stream, head, handler, self._server.max_message_bytes)
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
        call = self._calls.pop(stream, None)
        if call is not None:
            self._drop(call)

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
                await self._idle.wait()
        self._flush()
        for call in tuple(self._calls.values()):
            self._drop(call)
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

    def _waiting(self) -> list[CallContext]:
        """The calls whose answers wait for their reader."""
        return [call for call in self._calls.values() if call.waits]

    def _serve(self, call: CallContext) -> None:
        """Serve a call, of which enough is there, in a task of its own."""
        task = call.task = self._loop.create_task(call.serve())
        self._tasks.add(task)
        self._idle.clear()
        late = None
        if (remaining_s := call.time_remaining()) is not None:
            late = self._loop.call_later(remaining_s, call.expire)

        def over(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            if not self._tasks:
                self._idle.set()
            self._calls.pop(call.stream, None)
            if late is not None:
                late.cancel()
            call.over()
            if not ended.cancelled() and (error := ended.exception()) is not None:
                structlog.get_logger("mesh.http2").error("call not ended", exc_info=error)

        task.add_done_callback(over)

    def _drop(self, call: CallContext) -> None:
        """Nobody waits for a call any more."""
        if call.task is not None:
            call.task.cancel()

    def _refuse(self, stream: int, code: grpc.StatusCode, why: str) -> None:
        """Answer a call that is not begun with a status."""
        block = answer_headers(()) + trailers(int(code.value[0]), why)
        flags = Flag.END_HEADERS | Flag.END_STREAM
        self.connection.sender.end(stream, frame(Kind.HEADERS, flags, stream, block))
        self.connection.close(stream)

    def _flush(self) -> None:
        self._flushing = False
        if self._room is None:
            self._send()

    def _send(self) -> None:
        if self._transport is not None and (data := self.connection.sender.take()):
            self._transport.write(data)

    def _grow_old(self) -> None:
        """A connection as old as this is begun anew, and finds the processes that have come since."""
        self._leaving = self._loop.create_task(self.leave(_MAX_AGE_S))


def _tls(svid: Svid) -> ssl.SSLContext:
    """Takes peers with a certificate of our root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    _show(context, svid)
    return context


def _show(context: ssl.SSLContext, svid: Svid) -> None:
    """Show this certificate from now on, and trust its roots. The key is read from memory: no disk sees it."""
    descriptor = os.memfd_create("svid")
    try:
        os.write(descriptor, svid.key + b"\n" + svid.chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    context.load_verify_locations(cadata=svid.bundle.decode())


def _identity(certificate: bytes) -> Mapping[str, Sequence[bytes]]:
    """What grpc's `auth_context` says of a peer's certificate, DER: its SPIFFE ID, and itself as PEM."""
    shown = x509.load_der_x509_certificate(certificate)
    uris: list[str] = []
    with suppress(x509.ExtensionNotFound, ValueError):
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    spiffe = [uri.encode() for uri in uris if uri.startswith("spiffe://")]
    return {
        "peer_spiffe_id": spiffe if len(spiffe) == 1 else [],
        "x509_pem_cert": [shown.public_bytes(serialization.Encoding.PEM)],
    }
