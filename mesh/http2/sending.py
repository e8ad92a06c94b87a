"""What a connection has to send: control frames at once, bodies as far as the peer's windows allow, the rest later."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mesh.http2.frames import Ended, ErrorCode, Flag, Kind, frame

__all__ = ["Sender"]

_MAX_WINDOW = 2**31 - 1
_MAX_CONTROL_BYTES = 1 << 20
"""Answers to a peer that asks and asks, and does not read them."""


@dataclass(slots=True)
class _Outgoing:
    """A stream's answer.

    Attributes:
        window: bytes that the peer still takes on it; may be negative.
        waiting: what no window had room for yet.
        size: bytes in `waiting`.
        last: frames that follow all of it.
    """

    window: int
    waiting: deque[memoryview] = field(default_factory=deque)
    size: int = 0
    last: bytes = b""


class Sender:
    """Holds what is to be sent.

    Attributes:
        max_frame: bytes of a frame that the peer takes.
    """

    def __init__(self) -> None:
        self.max_frame = 16384
        self._ready: list[bytes] = []
        self._control = 0
        self._window = 65535
        self._first_window = 65535
        self._streams: dict[int, _Outgoing] = {}
        self._stuck: deque[int] = deque()

    def take(self) -> bytes:
        """Everything that can be sent now."""
        ready, self._ready, self._control = b"".join(self._ready), [], 0
        return ready

    def waiting(self, stream: int) -> int:
        """Bytes of a stream that cannot be sent yet."""
        outgoing = self._streams.get(stream)
        return outgoing.size if outgoing is not None else 0

    def open(self, stream: int) -> None:
        """A stream begins."""
        self._streams[stream] = _Outgoing(self._first_window)

    def now(self, control: bytes) -> None:
        """Send frames that no window holds back.

        Raises:
            Ended: the peer has so many of them to read that it seems not to.
        """
        self._ready.append(control)
        self._control += len(control)
        if self._control > _MAX_CONTROL_BYTES:
            self._control = 0
            raise Ended(ErrorCode.ENHANCE_YOUR_CALM, "what is sent is not read")

    def headers(self, stream: int, block: bytes) -> None:
        """Send an answer's headers."""
        if stream in self._streams:
            self._ready.append(frame(Kind.HEADERS, Flag.END_HEADERS, stream, block))

    def data(self, stream: int, data: bytes) -> None:
        """Send bytes of its body, as soon as the peer takes them."""
        outgoing = self._streams.get(stream)
        if outgoing is None or not data:
            return
        size = len(data)
        if not outgoing.size and size <= self.max_frame and size <= self._window and size <= outgoing.window:
            self._window -= size
            outgoing.window -= size
            self._ready.append(frame(Kind.DATA, 0, stream, data))
            return
        if not outgoing.size:
            self._stuck.append(stream)
        outgoing.waiting.append(memoryview(data))
        outgoing.size += size
        self._go_on()

    def end(self, stream: int, frames: bytes) -> None:
        """Send a stream's last frames once all before them is sent, and forget it then."""
        outgoing = self._streams.get(stream)
        if outgoing is None:
            self._ready.append(frames)
        elif outgoing.size:
            outgoing.last += frames
        else:
            self._ready.append(outgoing.last + frames)
            del self._streams[stream]

    def drop(self, stream: int) -> None:
        """Forget a stream and what was to be sent on it."""
        self._streams.pop(stream, None)

    def widen(self, stream: int, more: int) -> None:
        """The peer takes more, on a stream or (0) on all of them.

        Raises:
            Ended: more than can be.
        """
        if not stream:
            self._window += more
            if self._window > _MAX_WINDOW:
                raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "a window too wide")
        elif (outgoing := self._streams.get(stream)) is not None:
            outgoing.window += more
            if outgoing.window > _MAX_WINDOW:
                raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "a window too wide")
        self._go_on()

    def set_first_window(self, size: int) -> None:
        """With how wide a window streams begin; those that are open are changed by as much (RFC 9113, 6.9.2).

        Raises:
            Ended: no window can be so wide.
        """
        if size > _MAX_WINDOW:
            raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "a window too wide")
        for outgoing in self._streams.values():
            outgoing.window += size - self._first_window
            if outgoing.window > _MAX_WINDOW:
                raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "a window too wide")
        self._first_window = size
        self._go_on()

    def _go_on(self) -> None:
        """Send what the windows allow, a frame a stream in turn, so that none keeps the others waiting."""
        tries = len(self._stuck)
        while tries and self._window > 0:
            stream = self._stuck.popleft()
            outgoing = self._streams.get(stream)
            if outgoing is None or not outgoing.size:
                tries -= 1
                continue
            room = min(self.max_frame, self._window, outgoing.window)
            if room <= 0:
                self._stuck.append(stream)
                tries -= 1
                continue
            self._send_some(stream, outgoing, room)
            if outgoing.size:
                self._stuck.append(stream)
            elif outgoing.last:
                self._ready.append(outgoing.last)
                del self._streams[stream]
            tries = len(self._stuck)

    def _send_some(self, stream: int, outgoing: _Outgoing, room: int) -> None:
        """One frame of what a stream has waiting."""
        parts: list[memoryview] = []
        sent = 0
        while outgoing.waiting and sent < room:
            part = outgoing.waiting.popleft()
            if len(part) > room - sent:
                outgoing.waiting.appendleft(part[room - sent :])
                part = part[: room - sent]
            parts.append(part)
            sent += len(part)
        outgoing.size -= sent
        outgoing.window -= sent
        self._window -= sent
        self._ready.append(frame(Kind.DATA, 0, stream, b"".join(parts)))
