"""Header blocks, against the library that the rest of Python encodes them with."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.http2.headers import HeaderDecoder, HeadersTooLargeError, HpackError, field

NAMES = st.sampled_from([b":path", b":method", b"te", b"authorization", b"x-request-id", b"grpc-timeout", b"own"])
VALUES = st.binary(max_size=80) | st.sampled_from([b"POST", b"trailers", b"application/grpc", b"a" * 5000])
BLOCKS = st.lists(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8), max_size=12)


@given(BLOCKS, st.booleans(), st.sampled_from([None, 0, 64, 4096]))
def test_what_was_encoded_is_decoded_block_after_block(blocks, huffman, table):
    encoder, decoder = hpack.Encoder(), HeaderDecoder(1 << 20)
    for at, block in enumerate(blocks):
        if at == 2 and table is not None:
            encoder.header_table_size = table
        sent = [hpack.NeverIndexedHeaderTuple(n, v) if secret else (n, v) for n, v, secret in block]
        assert decoder.decode(encoder.encode(sent, huffman=huffman)) == tuple((name, value) for name, value, _ in block)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.binary(max_size=300)), max_size=8))
def test_what_is_written_is_what_the_library_reads(headers):
    block = b"".join(field(name, value) for name, value in headers)
    assert hpack.Decoder(1 << 20).decode(block, raw=True) == headers


@given(st.binary(max_size=200))
def test_bytes_that_are_no_block_are_refused_in_one_way(block):
    try:
        found = HeaderDecoder(1 << 16).decode(block)
    except (HpackError, HeadersTooLargeError):
        return
    assert all(isinstance(name, bytes) and isinstance(value, bytes) for name, value in found)


def test_a_block_that_is_too_large_leaves_the_next_one_readable():
    encoder, decoder = hpack.Encoder(), HeaderDecoder(200)
    with pytest.raises(HeadersTooLargeError, match="at most 200"):
        decoder.decode(encoder.encode([(b"own", b"x" * 100), (b"other", b"y" * 100)]))
    assert decoder.decode(encoder.encode([(b"own", b"x" * 100)])) == ((b"own", b"x" * 100),)


def test_a_block_that_comes_again_is_read_anew_once_the_table_has_changed():
    encoder, decoder = hpack.Encoder(), HeaderDecoder(1 << 16)
    for own in (b"one", b"two", b"three"):
        block = encoder.encode([(b"own", own)])
        decoder.decode(block)
        again = encoder.encode([(b"own", own)])  # an index, the same one for each of them
        assert again == b"\xbe"
        assert decoder.decode(again) == decoder.decode(again) == ((b"own", own),)
    with pytest.raises(HeadersTooLargeError):
        small = HeaderDecoder(64)
        small.decode(b"\x40\x01a\x01b")
        assert small.decode(b"\xbe") == ((b"a", b"b"),)
        small.decode(b"\x40\x01c\x01d\x40\x01e\x50" + b"f" * 80)
    assert small.decode(b"\xbf") == ((b"c", b"d"),)


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\xff\x7f", b"\x40\x7f\xff\xff\xff\xff\x7f", b"\xc0", b"\x88\x20", b"\x3f\xff\x7f"],
)
def test_indices_numbers_and_sizes_that_cannot_be_are_refused(block):
    with pytest.raises(HpackError):
        HeaderDecoder(1 << 16).decode(block)
