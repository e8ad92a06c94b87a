"""What a connection has to send: control frames at once, bodies as far as the peer's windows allow, the rest later."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from mesh.http2.frames import Ended, ErrorCode, Flag, Kind, frame, frame_head

__all__ = ["Sender"]

_MAX_WINDOW = 2**31 - 1
_MAX_CONTROL_BYTES = 1 << 20
"""Answers to a peer that asks and asks, and does not read them."""
_Bytes = bytes | memoryview


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
        answers: how many frames of answers it has sent.
        ready: what shall be sent at once.
        patient: what may as well go with the next answer.
        moved: streams of which something that waited was sent; whoever heeds it clears it.
    """

    def __init__(self) -> None:
        self.max_frame = 16384
        self.answers = 0
        self.ready: list[_Bytes] = []
        self.patient: list[_Bytes] = []
        self._control = 0
        self._window = 65535
        self._first_window = 65535
        self._streams: dict[int, _Outgoing] = {}
        self._stuck: OrderedDict[int, _Outgoing] = OrderedDict()  # their own windows have room, the connection's none
        self.moved: set[int] = set()

    def take(self) -> bytes:
        """Everything that can be sent now."""
        if self.patient:
            self.ready += self.patient
            self.patient = []
        ready, self.ready, self._control = b"".join(self.ready), [], 0
        return ready

    def waiting(self, stream: int) -> int:
        """Bytes of a stream that cannot be sent yet."""
        outgoing = self._streams.get(stream)
        return outgoing.size if outgoing is not None else 0

    def open(self, stream: int) -> None:
        """A stream begins."""
        self._streams[stream] = _Outgoing(self._first_window)

    def now(self, control: bytes) -> None:
        """Send frames that no window holds back."""
        self.ready.append(control)
        self._control += len(control)

    def soon(self, control: bytes) -> None:
        """Send such frames with what is sent next."""
        self.patient.append(control)
        self._control += len(control)

    def check(self) -> None:
        """See whether the peer reads what it asks for.

        Raises:
            Ended: it seems not to.
        """
        if self._control > _MAX_CONTROL_BYTES:
            raise Ended(ErrorCode.ENHANCE_YOUR_CALM, "what is sent is not read")

    def headers(self, stream: int, block: bytes) -> None:
        """Send an answer's headers."""
        if stream in self._streams:
            self.answers += 1
            self.ready.append(self._block(stream, 0, block))

    def data(self, stream: int, data: bytes) -> None:
        """Send bytes of its body, as soon as the peer takes them."""
        outgoing = self._streams.get(stream)
        if outgoing is None or not data:
            return
        size = len(data)
        if not outgoing.size and size <= self.max_frame and size <= self._window and size <= outgoing.window:
            self._window -= size
            outgoing.window -= size
            self.answers += 1
            self.ready += (frame_head(size, Kind.DATA, 0, stream), data)
            return
        outgoing.waiting.append(memoryview(data))
        outgoing.size += size
        self._line_up(stream, outgoing)
        self._go_on()

    def end(self, stream: int, block: bytes, *, stop: bool) -> None:
        """End a stream with its trailers once all before them is sent, and forget it then.

        `stop`: the peer still sends on it, and is told that nobody listens.
        """
        outgoing = self._streams.get(stream)
        if outgoing is None:
            return
        frames = self._block(stream, Flag.END_STREAM, block)
        if stop:
            frames += frame(Kind.RST_STREAM, 0, stream, bytes(4))
        if outgoing.size:
            outgoing.last = frames
        else:
            self.answers += 1
            self.ready.append(frames)
            del self._streams[stream]

    def whole(self, stream: int, head: bytes, data: bytes, block: bytes, *, stop: bool) -> bool:
        """Send a whole answer at once: headers, body and trailers, and forget its stream.

        Returns:
            False where the windows do not take it, or it needs more frames than these three: nothing is sent then.
        """
        outgoing, size, most = self._streams.get(stream), len(data), self.max_frame
        if outgoing is None or outgoing.size or size > self._window or size > outgoing.window:
            return False
        if size > most or len(head) > most or len(block) > most:
            return False
        self._window -= size
        self.answers += 3
        if head:
            self.ready.append(frame(Kind.HEADERS, Flag.END_HEADERS, stream, head))
        self.ready += (
            frame_head(size, Kind.DATA, 0, stream),
            data,
            frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream, block),
        )
        if stop:
            self.ready.append(frame(Kind.RST_STREAM, 0, stream, bytes(4)))
        del self._streams[stream]
        return True

    def refuse(self, stream: int, block: bytes, *, stop: bool) -> None:
        """End a stream that was never served; a peer that goes on asking and reads no refusal is sent away."""
        self._control += len(block)
        self.end(stream, block, stop=stop)

    def drop(self, stream: int) -> None:
        """Forget a stream and what was to be sent on it."""
        self._streams.pop(stream, None)
        self._stuck.pop(stream, None)

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
            self._change(stream, outgoing, more)
        self._go_on()

    def set_first_window(self, size: int) -> None:
        """With how wide a window streams begin; those that are open are changed by as much (RFC 9113, 6.9.2).

        Raises:
            Ended: no window can be so wide.
        """
        for stream, outgoing in self._streams.items():
            self._change(stream, outgoing, size - self._first_window)
        self._first_window = size
        self._go_on()

    def _change(self, stream: int, outgoing: _Outgoing, by: int) -> None:
        outgoing.window += by
        if outgoing.window > _MAX_WINDOW:
            raise Ended(ErrorCode.FLOW_CONTROL_ERROR, "a window too wide")
        self._line_up(stream, outgoing)

    def _line_up(self, stream: int, outgoing: _Outgoing) -> None:
        """Only what the connection's window alone holds back stands in line: none is looked at in vain."""
        if outgoing.size and outgoing.window > 0:
            self._stuck.setdefault(stream, outgoing)
        else:
            self._stuck.pop(stream, None)

    def _go_on(self) -> None:
        """Send what the windows allow, a frame a stream in turn, so that none keeps the others waiting."""
        while self._stuck and self._window > 0:
            stream, outgoing = self._stuck.popitem(last=False)
            self._send_some(stream, outgoing, min(self.max_frame, self._window, outgoing.window))
            self._line_up(stream, outgoing)
            if not outgoing.size and outgoing.last:
                self.ready.append(outgoing.last)
                del self._streams[stream]

    def _send_some(self, stream: int, outgoing: _Outgoing, room: int) -> None:
        """One frame of what a stream has waiting."""
        sent = min(room, outgoing.size)
        self.ready.append(frame_head(sent, Kind.DATA, 0, stream))
        left = sent
        while left:
            part = outgoing.waiting.popleft()
            if len(part) > left:
                outgoing.waiting.appendleft(part[left:])
                part = part[:left]
            self.ready.append(part)
            left -= len(part)
        outgoing.size -= sent
        outgoing.window -= sent
        self._window -= sent
        self.answers += 1
        self.moved.add(stream)

    def _block(self, stream: int, flags: int, block: bytes) -> bytes:
        """A header block, in as many frames as it needs."""
        most = self.max_frame
        if len(block) <= most:
            return frame(Kind.HEADERS, flags | Flag.END_HEADERS, stream, block)
        frames = [frame(Kind.HEADERS, flags, stream, block[:most])]
        for at in range(most, len(block), most):
            end = Flag.END_HEADERS if at + most >= len(block) else 0
            frames.append(frame(Kind.CONTINUATION, end, stream, block[at : at + most]))
        return b"".join(frames)
