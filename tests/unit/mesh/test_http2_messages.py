"""gRPC's own layer: headers that are a request's, and messages in whatever pieces they come."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.http2.memory import Memory
from mesh.http2.messages import Messages, StatusError, framed, read_head

HEAD = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/a"), (b"content-type", b"application/grpc")]


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 30), min_size=1, max_size=9))
def test_messages_are_the_same_however_their_bytes_are_cut(bodies, cuts):
    wire, at, turn, found, fresh = b"".join(map(framed, bodies)), 0, 0, [], 0
    messages = Messages(40, "identity")
    while at < len(wire):
        step = wire[at : at + cuts[turn % len(cuts)]]
        came = messages.feed(step)
        assert sum(each.fresh for each in came) <= len(step)
        found += [messages.plain(each) for each in came]
        fresh, at, turn = fresh + sum(each.fresh for each in came), at + len(step), turn + 1
    assert (found, messages.held) == (bodies, 0)


def test_a_message_is_refused_by_its_first_bytes():
    with pytest.raises(StatusError, match="at most 40") as raised:
        Messages(40, "identity").feed(b"\0\0\0\0\x29")
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_binary_metadata_comes_in_one_header_or_several():
    metadata = read_head([*HEAD, (b"own-bin", b"AAE=,AAI"), (b"own-bin", b"AAM")]).metadata
    assert metadata == (("own-bin", b"\0\1"), ("own-bin", b"\0\2"), ("own-bin", b"\0\3"))


@pytest.mark.parametrize(
    "headers",
    [
        [*HEAD, (b"Own", b"a")],
        [*HEAD, (b"own ", b"a")],
        [*HEAD, (b"own", b"a\r\nother: b")],
        [*HEAD, (b"own", b"a\0")],
        [*HEAD, (b":authority", b"a")],
        [(b":path", b"/b"), *HEAD],
        [(b":status", b"200"), *HEAD],
        [*HEAD, (b"own-bin", b"A*==")],
        [*HEAD[:3], (b"content-type", b"application/grpc-web")],
        [*HEAD[1:]],
    ],
)
def test_headers_that_are_no_request_s_are_refused(headers):
    with pytest.raises(StatusError) as raised:
        read_head(headers)
    assert raised.value.code is grpc.StatusCode.INTERNAL


def test_memory_is_bounded_in_its_part_and_in_the_whole():
    whole = Memory(100)
    one, other = Memory(80, whole), Memory(80, whole)
    one.keep(70)
    for memory, size in ((one, 20), (other, 40)):
        with pytest.raises(StatusError, match="try again later"):
            memory.keep(size)
    assert (one.kept, other.kept, whole.kept) == (70, 0, 70)
    one.free(70)
    other.keep(80)
    assert whole.kept == 80
