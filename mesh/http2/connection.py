"""One HTTP/2 connection, seen from the server, without a socket: bytes in, calls out, bytes to send.

It holds the protocol's rules and every bound on what a peer can make it keep or do. What a stream means is its
listener's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mesh.http2.frames import PREFACE, Ended, ErrorCode, Flag, Kind, Setting, frame
from mesh.http2.headers import HeaderDecoder, Headers, HeadersTooLargeError, HpackError
from mesh.http2.sending import Sender

__all__ = ["Connection", "Limits", "Listener"]

_MAX_FRAME = 16384
_MAX_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65535
_MAX_CONTINUATIONS = 32
_PATIENCE = 1000
"""How many streams a peer may take back, or frames without a purpose send, at once."""
_CALM_PER_S = 100
"""How many of them are forgiven in a second, besides one for each frame of an answer: with those come a client's pings,
and the streams that are taken back are the late ones of all who share a proxy's connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may ask of a connection.

    Attributes:
        streams: calls at once.
        header_bytes: of one request.
        stream_window: bytes that may be on their way to us on one stream before some of them are taken.
        window: as above, on all streams together.
        kept_bytes: of messages that are not read or not sent yet.
    """

    streams: int = 1024
    header_bytes: int = 32 * 1024
    stream_window: int = 1 << 20
    window: int = 1 << 24
    kept_bytes: int = 1 << 28


class Listener(Protocol):
    """Hears what comes on streams."""

    def opened(self, stream: int, headers: Headers | None, *, ended: bool) -> None:
        """A request begins; its headers are None where they were too large. `ended`: it has no body."""

    def received(self, stream: int, data: bytes, *, ended: bool) -> None:
        """Bytes of its body, of which `Connection.taken` must be told once they are done with."""

    def reset(self, stream: int) -> None:
        """The peer has taken it back, or it broke the rules: nothing more can be sent on it."""


@dataclass(slots=True)
class _Receiving:
    """What is open from the peer's side: how much it may still send, and what was taken since it was told more."""

    window: int
    taken: int = 0
    ended: bool = False


class Connection:
    """A connection's state.

    Args:
        listener: hears what comes.
        limits: what the peer may ask for.
        clock: seconds.
    """

    def __init__(self, listener: Listener, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._listener = listener
        self._limits = limits
        self._headers = HeaderDecoder(limits.header_bytes)
        self._rest = b""
        self._preface = len(PREFACE)
        self._settled = False
        self._open: dict[int, _Receiving] = {}
        self._last = 0
        self._last_served = _MAX_WINDOW
        self._whole = _Receiving(limits.window)
        self._block: tuple[int, int, bytearray, int] | None = None
        self._clock = clock
        self._patience = float(_PATIENCE)
        self._forgiven_at = clock()
        self._forgiven_answers = 0
        self.sender = Sender()
        said = {
            Setting.MAX_CONCURRENT_STREAMS: limits.streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }
        payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in said.items())
        self.sender.now(frame(Kind.SETTINGS, 0, 0, payload))
        if limits.window > _FIRST_WINDOW:
            self.sender.now(frame(Kind.WINDOW_UPDATE, 0, 0, (limits.window - _FIRST_WINDOW).to_bytes(4, "big")))
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._on_data,
            Kind.HEADERS: self._on_headers,
            Kind.PRIORITY: self._on_priority,
            Kind.RST_STREAM: self._on_reset,
            Kind.SETTINGS: self._on_settings,
            Kind.PUSH_PROMISE: self._on_push,
            Kind.PING: self._on_ping,
            Kind.GOAWAY: self._on_goaway,
            Kind.WINDOW_UPDATE: self._on_window,
            Kind.CONTINUATION: self._on_continuation,
        }

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come, in whatever pieces.

        Raises:
            Ended: the peer broke the rules; what is to be sent yet tells it so.
        """
        try:
            try:
                self._feed(data)
                self.sender.check()
            except HpackError as error:
                raise Ended(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        except Ended as ended:
            self.sender.now(_goaway(min(self._last, self._last_served), ended.code, str(ended)))
            raise

    def taken(self, stream: int, size: int) -> None:
        """So many bytes of a body are done with: the peer may send as many more."""
        self._credit(0, self._whole, self._limits.window, size)
        receiving = self._open.get(stream)
        if receiving is not None and not receiving.ended:
            self._credit(stream, receiving, self._limits.stream_window, size)

    def end(self, stream: int, block: bytes) -> None:
        """End a stream with its trailers; a peer that still sends on it is told to stop."""
        receiving = self._open.pop(stream, None)
        if receiving is not None:
            self.sender.end(stream, block, stop=not receiving.ended)

    def answer(self, stream: int, head: bytes, data: bytes, block: bytes) -> bool:
        """Send a whole answer, if the peer takes all of it now; False where it does not, and nothing was sent."""
        receiving = self._open.get(stream)
        if receiving is None or not self.sender.whole(stream, head, data, block, stop=not receiving.ended):
            return False
        del self._open[stream]
        return True

    def refuse(self, stream: int, block: bytes) -> None:
        """End a stream that was never served, with all that is said of it."""
        receiving = self._open.pop(stream, None)
        if receiving is not None:
            self.sender.refuse(stream, block, stop=not receiving.ended)

    def reset(self, stream: int, code: ErrorCode) -> None:
        """End a stream at once, whatever is still to be sent on it."""
        self.sender.drop(stream)
        if self._open.pop(stream, None) is not None:
            self.sender.now(frame(Kind.RST_STREAM, 0, stream, _code(code)))

    def go_away(self, *, soon: bool) -> None:
        """Ask the peer to go elsewhere. `soon`: calls that are on their way are still taken; after that no more are."""
        if not soon:
            self._last_served = min(self._last, self._last_served)
        self.sender.now(_goaway(self._last_served, ErrorCode.NO_ERROR, "going away"))

    def _feed(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        if self._preface:
            if not PREFACE.startswith(buffer[: len(PREFACE)]):
                raise Ended(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC, over HTTP/2")
            if end < len(PREFACE):
                self._rest = buffer
                return
            at, self._preface = len(PREFACE), 0
        handlers = self._handlers
        while end - at >= 9:
            length = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            if length > _MAX_FRAME:
                raise Ended(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes; at most {_MAX_FRAME} are taken")
            stop = at + 9 + length
            if stop > end:
                break
            kind = buffer[at + 3]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & _MAX_WINDOW
            if (self._block is not None) is not (kind == Kind.CONTINUATION) or not (
                self._settled or kind == Kind.SETTINGS
            ):
                raise Ended(ErrorCode.PROTOCOL_ERROR, f"a frame of the kind {kind} is out of turn")
            handler = handlers.get(kind)
            if handler is None:
                self._noise()
            else:
                handler(stream, buffer[at + 4], buffer[at + 9 : stop])
            at = stop
        self._rest = buffer[at:]

    def _on_headers(self, stream: int, flags: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & Flag.PRIORITY:
            if len(block) < 5:
                raise Ended(ErrorCode.FRAME_SIZE_ERROR, "a priority is cut off")
            block = block[5:]
        if not stream & 1:
            raise Ended(ErrorCode.PROTOCOL_ERROR, f"a client opens odd streams, and {stream} is even")
        if flags & Flag.END_HEADERS:
            self._on_block(stream, block, ended=bool(flags & Flag.END_STREAM))
        else:
            self._block = (stream, flags, bytearray(block), 0)

    def _on_continuation(self, stream: int, flags: int, payload: bytes) -> None:
        assert self._block is not None  # noqa: S101 -- else it was out of turn
        of, first, block, count = self._block
        block += payload
        if of != stream:
            raise Ended(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        if len(block) > 2 * self._limits.header_bytes or count >= _MAX_CONTINUATIONS:
            raise Ended(ErrorCode.ENHANCE_YOUR_CALM, "a header block without an end")
        if flags & Flag.END_HEADERS:
            self._block = None
            self._on_block(stream, bytes(block), ended=bool(first & Flag.END_STREAM))
        else:
            self._block = (of, first, block, count + 1)

    def _on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        """A whole header block: a request's, or what follows its body."""
        headers: Headers | None
        try:
            headers = self._headers.decode(block)  # also where nobody wants them: the next ones build on them
        except HeadersTooLargeError:
            headers = None
        if stream <= self._last:
            receiving = self._open.get(stream)
            if receiving is None:
                self._noise()  # we have ended it already
            elif receiving.ended or not ended or any(name[:1] == b":" for name, _ in headers or ()):
                raise Ended(ErrorCode.PROTOCOL_ERROR, f"headers come again on stream {stream}")
            else:
                receiving.ended = True
                self._listener.received(stream, b"", ended=True)
            return
        self._last = stream
        if stream > self._last_served:
            return
        if len(self._open) >= self._limits.streams:
            self._noise()
            self.sender.now(frame(Kind.RST_STREAM, 0, stream, _code(ErrorCode.REFUSED_STREAM)))
            return
        self._open[stream] = _Receiving(self._limits.stream_window, 0, ended)
        self.sender.open(stream)
        self._listener.opened(stream, headers, ended=ended)

    def _on_data(self, stream: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        self._whole.window -= size
        if self._whole.window < 0:
            raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the connection's window holds")
        receiving = self._open.get(stream)
        if receiving is None:
            if stream > self._last or not stream & 1:
                raise Ended(ErrorCode.PROTOCOL_ERROR, f"data on the stream {stream}, which was never opened")
            if not size:
                self._noise()
            # Else it was on its way when we ended the stream: the window has bounded it.
            self._credit(0, self._whole, self._limits.window, size)
            return
        if receiving.ended:
            raise Ended(ErrorCode.STREAM_CLOSED, f"data on the stream {stream} after its end")
        receiving.window -= size
        if receiving.window < 0:
            raise Ended(ErrorCode.FLOW_CONTROL_ERROR, f"more bytes than the window of stream {stream} holds")
        data = _unpadded(flags, payload)
        ended = receiving.ended = bool(flags & Flag.END_STREAM)
        if len(data) < size:
            self.taken(stream, size - len(data))
        if data or ended:
            self._listener.received(stream, data, ended=ended)
        else:
            self._noise()

    def _on_reset(self, stream: int, _: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Ended(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        if stream > self._last or not stream:
            raise Ended(ErrorCode.PROTOCOL_ERROR, f"the stream {stream} was never opened")
        self._noise()
        self.sender.drop(stream)
        if self._open.pop(stream, None) is not None:
            self._listener.reset(stream)

    def _on_settings(self, stream: int, flags: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & Flag.ACK and payload):
            raise Ended(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS are pairs of a number and a value, on no stream")
        self._settled = True
        if flags & Flag.ACK:
            return
        self._noise()
        said: dict[int, int] = {}  # of a setting that comes again the last one holds
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == Setting.INITIAL_WINDOW_SIZE and value > _MAX_WINDOW:
                raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "a window too wide")
            if key == Setting.MAX_FRAME_SIZE and not _MAX_FRAME <= value < 1 << 24:
                raise Ended(ErrorCode.PROTOCOL_ERROR, f"frames of {value} bytes cannot be")
            if key == Setting.ENABLE_PUSH and value > 1:
                raise Ended(ErrorCode.PROTOCOL_ERROR, "a push is enabled or not")
            said[key] = value
        if Setting.MAX_FRAME_SIZE in said:
            self.sender.max_frame = min(said[Setting.MAX_FRAME_SIZE], 1 << 20)
        if Setting.INITIAL_WINDOW_SIZE in said:
            self.sender.set_first_window(said[Setting.INITIAL_WINDOW_SIZE])
        self.sender.now(frame(Kind.SETTINGS, Flag.ACK, 0))

    def _on_ping(self, stream: int, flags: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise Ended(ErrorCode.FRAME_SIZE_ERROR, "PING has eight bytes, on no stream")
        if not flags & Flag.ACK:
            self._noise()
            self.sender.soon(frame(Kind.PING, Flag.ACK, 0, payload))

    def _on_window(self, stream: int, _: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Ended(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        more = int.from_bytes(payload, "big") & _MAX_WINDOW
        if not more or stream > self._last:
            raise Ended(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing, or on a stream that was never opened")
        self.sender.widen(stream, more)

    def _on_priority(self, stream: int, _: int, payload: bytes) -> None:
        if len(payload) != 5 or not stream:
            raise Ended(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five bytes, on a stream")
        self._noise()

    def _on_push(self, *_: object) -> None:
        raise Ended(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def _on_goaway(self, *_: object) -> None:
        self._noise()  # it opens no more streams; those that are open end as they end

    def _credit(self, stream: int, receiving: _Receiving, full: int, size: int) -> None:
        """Let the peer send on once half of a window was taken: a frame for every few bytes costs more than they."""
        receiving.taken += size
        if receiving.taken * 2 >= full:
            receiving.window += receiving.taken
            self.sender.now(frame(Kind.WINDOW_UPDATE, 0, stream, receiving.taken.to_bytes(4, "big")))
            receiving.taken = 0

    def _noise(self) -> None:
        """A frame that brings nothing on; a peer that sends too many of them is sent away."""
        now, answers = self._clock(), self.sender.answers
        forgiven = (now - self._forgiven_at) * _CALM_PER_S + answers - self._forgiven_answers
        self._forgiven_at, self._forgiven_answers = now, answers
        self._patience = min(_PATIENCE, self._patience + forgiven) - 1
        if self._patience < 0:
            raise Ended(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without a purpose")


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & Flag.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Ended(ErrorCode.PROTOCOL_ERROR, "more padding than the frame holds")
    return payload[1 : len(payload) - payload[0]]


def _code(code: ErrorCode) -> bytes:
    return int(code).to_bytes(4, "big")


def _goaway(last: int, code: ErrorCode, why: str) -> bytes:
    return frame(Kind.GOAWAY, 0, 0, last.to_bytes(4, "big") + _code(code) + why.encode()[:200])
