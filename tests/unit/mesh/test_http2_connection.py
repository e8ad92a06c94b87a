"""The protocol's rules, without a socket, against the library that the rest of Python speaks HTTP/2 with."""

from __future__ import annotations

from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from mesh.http2.connection import Connection, Limits
from mesh.http2.frames import PREFACE, Ended, ErrorCode, Flag, Kind, frame
from mesh.http2.headers import field
from mesh.http2.messages import answer_headers, trailers

REQUEST = [(":method", "POST"), (":scheme", "https"), (":path", "/a"), (":authority", "b")]
SETTINGS = frame(Kind.SETTINGS, 0, 0)
BEGIN = PREFACE + SETTINGS
OPEN = frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\x83\x87" + field(b":path", b"/a"))


class Echo:
    """Sends back what came, when the whole of it is there."""

    def __init__(self, limits: Limits) -> None:
        self.bodies: dict[int, bytearray] = {}
        self.resets: list[int] = []
        self.held: list[int] = []
        self.connection = Connection(self, limits)

    def opened(self, stream: int, headers, *, ended: bool) -> None:
        self.bodies[stream] = bytearray()
        if ended:
            self.answer(stream)

    def received(self, stream: int, data: bytes, *, ended: bool) -> None:
        self.bodies[stream] += data
        self.connection.taken(stream, len(data))
        if ended:
            self.answer(stream)

    def reset(self, stream: int) -> None:
        self.resets.append(stream)

    def answer(self, stream: int) -> None:
        sender = self.connection.sender
        sender.headers(stream, answer_headers(()))
        sender.data(stream, bytes(self.bodies[stream]))
        self.connection.end(stream, trailers(0, ""))


def client() -> h2.connection.H2Connection:
    made = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    made.initiate_connection()
    return made


class Asking:
    """A client that sends bodies and collects what comes back."""

    def __init__(self, echo: Echo, window: int, cut: int) -> None:
        self.echo, self.cut = echo, cut
        self.client = client()
        self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.client.receive_data(echo.connection.sender.take())  # a window may be narrower than a client assumes
        self.left: dict[int, bytes] = {}
        self.got: dict[int, bytearray] = {}
        self.done: set[int] = set()

    def begin(self, size: int) -> bytes:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, REQUEST)
        self.got[stream] = bytearray()
        self.left[stream] = bytes([stream % 251]) * size
        return self.left[stream]

    def send(self) -> None:
        for stream, body in list(self.left.items()):
            room = min(len(body), self.client.local_flow_control_window(stream), self.client.max_outbound_frame_size)
            if room or not body:
                self.client.send_data(stream, body[:room], end_stream=room == len(body))
                self.left[stream] = body[room:]
                if room == len(body):
                    del self.left[stream]
        outgoing = self.client.data_to_send()
        step = self.cut if len(outgoing) < 4000 else 4096
        for at in range(0, len(outgoing), step):
            self.echo.connection.feed(outgoing[at : at + step])

    def receive(self) -> None:
        for event in self.client.receive_data(self.echo.connection.sender.take()):
            if isinstance(event, h2.events.DataReceived):
                self.got[event.stream_id] += event.data
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.done.add(event.stream_id)


@tried(max_examples=60, deadline=None)
@given(
    taken=st.sampled_from([1, 100, 70000]),
    whole=st.integers(65535, 1 << 17),
    given_=st.sampled_from([1, 50, 65535, 200000]),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    cut=st.sampled_from([1, 7, 100, 1 << 20]),
)
def test_bodies_of_any_size_come_back_whole_over_windows_of_any_width(taken, whole, given_, shares, cut):
    echo = Echo(Limits(stream_window=taken, window=whole))
    asking = Asking(echo, given_, cut)
    biggest = 200_000 if min(taken, given_) > 100 else 300
    sent = [asking.begin(int(share * biggest)) for share in shares]
    for _ in range(5000):
        asking.send()
        asking.receive()
        if len(asking.done) == len(sent):
            break
    assert [bytes(body) for body in asking.got.values()] == sent
    assert echo.connection.streams == 0


WRONG = {
    "no preface": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
    "settings do not come first": (PREFACE + frame(Kind.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a frame too long": (BEGIN + b"\x01\x00\x00\x00\x00\x00\x00\x00\x01", ErrorCode.FRAME_SIZE_ERROR),
    "an even stream": (BEGIN + frame(Kind.HEADERS, 5, 2, b"\x83"), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (BEGIN + frame(Kind.HEADERS, 5, 0, b"\x83"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (BEGIN + frame(Kind.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on stream 0": (BEGIN + frame(Kind.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data after the end": (
        BEGIN + OPEN + frame(Kind.DATA, 1, 1, b"x") + frame(Kind.DATA, 1, 1, b"x"), ErrorCode.STREAM_CLOSED,
    ),
    "more padding than there is": (BEGIN + OPEN + frame(Kind.DATA, 8, 1, b"\x09x"), ErrorCode.PROTOCOL_ERROR),
    "headers again": (BEGIN + OPEN + OPEN, ErrorCode.PROTOCOL_ERROR),
    "a block interrupted": (
        BEGIN + frame(Kind.HEADERS, 0, 1, b"\x83") + frame(Kind.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (BEGIN + frame(Kind.CONTINUATION, 4, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "a continuation of another": (
        BEGIN + frame(Kind.HEADERS, 0, 1, b"\x83") + frame(Kind.CONTINUATION, 4, 3, b""), ErrorCode.PROTOCOL_ERROR,
    ),
    "blocks without an end": (
        BEGIN + frame(Kind.HEADERS, 0, 1, b"\x83") + frame(Kind.CONTINUATION, 0, 1, b"") * 40,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a block of nonsense": (BEGIN + frame(Kind.HEADERS, 5, 1, b"\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a short reset": (BEGIN + frame(Kind.RST_STREAM, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a reset of an idle stream": (BEGIN + frame(Kind.RST_STREAM, 0, 9, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "settings cut off": (BEGIN + frame(Kind.SETTINGS, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "settings with frames too small": (
        BEGIN + frame(Kind.SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x01"), ErrorCode.PROTOCOL_ERROR,
    ),
    "settings with a window too wide": (
        BEGIN + frame(Kind.SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a short ping": (BEGIN + frame(Kind.PING, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "a push": (BEGIN + frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a window that grows by nothing": (BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a window too wide": (
        BEGIN + frame(Kind.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "priorities for ever": (BEGIN + frame(Kind.PRIORITY, 0, 1, bytes(5)) * 2000, ErrorCode.ENHANCE_YOUR_CALM),
    "pings for ever": (BEGIN + frame(Kind.PING, 0, 0, bytes(8)) * 2000, ErrorCode.ENHANCE_YOUR_CALM),
    "empty data for ever": (BEGIN + OPEN + frame(Kind.DATA, 0, 1) * 2000, ErrorCode.ENHANCE_YOUR_CALM),
    "unknown frames for ever": (BEGIN + frame(77, 0, 0) * 2000, ErrorCode.ENHANCE_YOUR_CALM),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_who_breaks_the_rules_is_told_which_and_sent_away(name):
    sent, code = WRONG[name]
    echo = Echo(Limits())
    echo.answer = lambda _: None
    with pytest.raises(Ended) as raised:
        echo.connection.feed(sent)
    assert raised.value.code is code
    told = echo.connection.sender.take()
    assert frame(Kind.GOAWAY, 0, 0)[3:4] in told
    assert int(code).to_bytes(4, "big") + str(raised.value).encode()[:200] in told


def test_streams_that_are_opened_and_taken_back_for_ever_end_the_connection():
    echo = Echo(Limits())
    echo.connection.feed(BEGIN)
    with pytest.raises(Ended) as raised:
        for at in range(5000):
            stream = 2 * at + 1
            echo.connection.feed(
                frame(Kind.HEADERS, 4, stream, b"\x83\x87") + frame(Kind.RST_STREAM, 0, stream, bytes(4))
            )
    assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert len(echo.resets) <= 1100


def test_more_bytes_than_the_window_holds_end_the_connection():
    class Deaf(Echo):
        def received(self, stream: int, data: bytes, *, ended: bool) -> None:
            """Take nothing."""

    deaf = Deaf(Limits(stream_window=70000))
    deaf.connection.feed(BEGIN + OPEN)
    with pytest.raises(Ended) as raised:
        for _ in range(5):
            deaf.connection.feed(frame(Kind.DATA, 0, 1, bytes(16384)))
    assert raised.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_more_streams_than_are_taken_are_refused_and_the_others_go_on():
    echo = Echo(Limits(streams=1))
    second = frame(Kind.HEADERS, Flag.END_HEADERS, 3, b"\x83\x87")
    echo.connection.feed(BEGIN + OPEN + second)
    assert (
        frame(Kind.RST_STREAM, 0, 3, int(ErrorCode.REFUSED_STREAM).to_bytes(4, "big")) in echo.connection.sender.take()
    )
    echo.connection.feed(frame(Kind.DATA, 1, 1, b"hello"))
    assert b"hello" in echo.connection.sender.take()


def test_an_answer_whose_stream_is_taken_back_is_forgotten():
    echo = Echo(Limits())
    echo.connection.feed(BEGIN + frame(Kind.SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00") + OPEN)
    echo.connection.feed(frame(Kind.DATA, 1, 1, b"hello"))
    assert echo.connection.sender.waiting(1) == 5
    echo.connection.feed(frame(Kind.RST_STREAM, 0, 1, bytes(4)))
    assert echo.connection.sender.waiting(1) == 0
    echo.connection.sender.take()
    echo.connection.end(1, trailers(0, ""))
    assert echo.connection.sender.take() == b""


def test_headers_longer_than_a_frame_are_continued():
    echo, asking = Echo(Limits()), client()
    asking.max_inbound_frame_size = 16384
    asking.decoder.max_header_list_size = 1 << 20
    echo.answer = lambda stream: echo.connection.end(stream, answer_headers((("own", "a" * 50_000),)))
    stream = asking.get_next_available_stream_id()
    asking.send_headers(stream, REQUEST, end_stream=True)
    echo.connection.feed(asking.data_to_send())
    found = [each for each in asking.receive_data(echo.connection.sender.take()) if hasattr(each, "headers")]
    assert dict(found[0].headers)["own"] == "a" * 50_000


def test_pings_between_answers_and_bodies_that_were_on_their_way_are_no_noise():
    echo = Echo(Limits())
    echo.connection.feed(BEGIN + OPEN + frame(Kind.WINDOW_UPDATE, 0, 0, b"\x0f\xff\xff\xff"))
    echo.connection.feed(frame(Kind.SETTINGS, 0, 0, b"\x00\x04\x0f\xff\xff\xff"))
    for _ in range(3000):  # as grpc-go measures a connection
        echo.connection.sender.data(1, b"a token")
        echo.connection.feed(frame(Kind.PING, 0, 0, bytes(8)))
    echo.connection.end(1, trailers(0, ""))
    for _ in range(3000):
        echo.connection.feed(frame(Kind.DATA, 0, 1, bytes(100)))
        echo.connection.sender.take()


def test_streams_taken_back_are_forgiven_after_a_while():
    now = 0.0
    echo = Echo(Limits())
    echo.connection = Connection(echo, Limits(), lambda: now)
    echo.connection.feed(BEGIN)
    for at in range(5000):
        now += 0.02
        stream = 2 * at + 1
        echo.connection.feed(frame(Kind.HEADERS, 4, stream, b"\x83\x87") + frame(Kind.RST_STREAM, 0, stream, bytes(4)))
        echo.connection.sender.take()
    assert len(echo.resets) == 5000


def test_the_last_stream_that_is_served_only_becomes_earlier():
    echo = Echo(Limits())
    echo.connection.feed(BEGIN + OPEN)
    echo.connection.go_away(soon=False)
    echo.connection.feed(frame(Kind.HEADERS, Flag.END_HEADERS, 3, b"\x83\x87"))
    echo.connection.sender.take()
    for soon in (True, False):
        echo.connection.go_away(soon=soon)
        assert echo.connection.sender.take()[9:13] == (1).to_bytes(4, "big")


def test_a_peer_that_asks_and_does_not_read_is_sent_away():
    echo = Echo(Limits())
    echo.opened = lambda stream, _, *, ended: echo.connection.refuse(stream, trailers(12, "x" * 200))
    echo.connection.feed(BEGIN)
    with pytest.raises(Ended, match="not read"):
        for at in range(10_000):
            echo.connection.feed(frame(Kind.HEADERS, 5, 2 * at + 1, b"\x83\x87"))


def test_trailers_have_no_pseudo_headers():
    echo = Echo(Limits())
    with pytest.raises(Ended) as raised:
        echo.connection.feed(BEGIN + OPEN + frame(Kind.HEADERS, 5, 1, b"\x83"))
    assert raised.value.code is ErrorCode.PROTOCOL_ERROR


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_end_the_connection(data):
    echo = Echo(Limits())
    with suppress(Ended):
        echo.connection.feed(BEGIN + data)
