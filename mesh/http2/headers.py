"""Header blocks (HPACK, RFC 7541): what a client sends is decoded, what is answered is written without compression.

Decoding is the larger part of what a small call costs, so what comes again is remembered: texts that were Huffman-
coded, an access token above all, are decoded once a connection, and so are whole blocks.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from hpack import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

__all__ = ["HeaderDecoder", "Headers", "HeadersTooLargeError", "HpackError", "field", "integer"]

_STATIC: tuple[tuple[bytes, bytes], ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
"""Indices begin at 1 (RFC 7541, appendix A)."""
_TABLE_BYTES = 4096
_ENTRY_BYTES = 32
"""What an entry counts besides its texts (RFC 7541, 4.1)."""
_REMEMBERED = 64
_REMEMBERED_BYTES = 4096
_LONGEST = 1 << 24


Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


class HpackError(Exception):
    """A block that cannot be decoded; the connection is of no use any more."""


class HeadersTooLargeError(Exception):
    """A block whole and well, but larger than is taken; the connection goes on."""


class HeaderDecoder:
    """Decodes the blocks of one connection, in order.

    Args:
        max_bytes: names, values and 32 bytes a header, all together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._table_bytes = 0
        self._table_limit = _TABLE_BYTES
        self._texts: dict[bytes, bytes] = {}
        self._blocks: dict[bytes, Headers] = {}
        self._changed = False

    def decode(self, block: bytes) -> Headers:
        """The headers of a block, in order; the very same ones where the block is like an earlier one.

        Raises:
            HpackError: it is none.
            HeadersTooLargeError: there is too much; later blocks can still be decoded.
        """
        known = self._blocks.get(block)  # as long as the table is what it was then
        if known is not None:
            return known
        self._changed = False
        try:
            headers = tuple(self._decode(block))
        except (IndexError, HPACKDecodingError):
            raise HpackError("a header block ends early, or names what is not there") from None
        if not self._changed and len(block) <= _REMEMBERED_BYTES:
            if len(self._blocks) >= _REMEMBERED:
                self._blocks.clear()
            self._blocks[block] = headers
        return headers

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        at, end, size = 0, len(block), 0
        found: list[tuple[bytes, bytes]] = []
        while at < end:
            first = block[at]
            if first & 0x80:  # a header of a table
                index, at = self._integer(block, at, 0x7F)
                header = self._at(index)
            elif first & 0xE0 == 0x20:  # how large the table may be from now on
                if found:
                    raise HpackError("the table's size changes inside a block")
                limit, at = self._integer(block, at, 0x1F)
                self._resize(limit)
                continue
            else:
                keeps = first & 0x40
                index, at = self._integer(block, at, 0x3F if keeps else 0x0F)
                if index:
                    name = self._at(index)[0]
                else:
                    name, at = self._text(block, at)
                value, at = self._text(block, at)
                header = (name, value)
                if keeps:
                    self._keep(header)
            size += len(header[0]) + len(header[1]) + _ENTRY_BYTES
            if size <= self._max_bytes:
                found.append(header)
        if size > self._max_bytes:
            raise HeadersTooLargeError(f"the headers are {size} bytes; at most {self._max_bytes} are taken")
        return found

    def _at(self, index: int) -> tuple[bytes, bytes]:
        if index >= len(_STATIC):
            return self._table[index - len(_STATIC)]
        if not index:
            raise HpackError("no header has the index 0")
        return _STATIC[index]

    def _keep(self, header: tuple[bytes, bytes]) -> None:
        self._table.appendleft(header)
        self._table_bytes += len(header[0]) + len(header[1]) + _ENTRY_BYTES
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > _TABLE_BYTES:
            raise HpackError("the table would become larger than the settings allow")
        self._table_limit = limit
        self._evict()

    def _evict(self) -> None:
        self._changed = True
        self._blocks.clear()
        while self._table_bytes > self._table_limit:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + _ENTRY_BYTES

    @staticmethod
    def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
        value = block[at] & mask
        at += 1
        if value < mask:
            return value, at
        shift = 0
        while True:
            byte = block[at]
            at += 1
            value += (byte & 0x7F) << shift
            if not byte & 0x80:
                return value, at
            shift += 7
            if value > _LONGEST or shift > 28:
                raise HpackError("a number is too large")

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        coded = block[at] & 0x80
        length, at = self._integer(block, at, 0x7F)
        end = at + length
        if end > len(block):
            raise HpackError("a text runs past the end of its block")
        text = block[at:end]
        if not coded:
            return text, end
        known = self._texts.get(text)
        if known is None:
            known = bytes(decode_huffman(text))
            if length <= _REMEMBERED_BYTES:
                if len(self._texts) >= _REMEMBERED:
                    self._texts.clear()
                self._texts[text] = known
        return known, end


def integer(value: int, first: int, mask: int) -> bytes:
    """A number behind the bits of `first`, in as many bits of it as `mask` has, and more bytes where it needs them."""
    if value < mask:
        return bytes((first | value,))
    made = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def field(name: bytes, value: bytes) -> bytes:
    """A header that no table keeps."""
    return b"\0" + integer(len(name), 0, 0x7F) + name + integer(len(value), 0, 0x7F) + value
