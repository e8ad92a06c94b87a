"""The frames that a service and its sandboxed worker exchange over a socket pair.

What the parts of a frame mean is said at `Op` and `Status`; who acts on them is elsewhere. A frame is the size of what
follows the size (uint32), a kind (uint8), the number of parts (uint8), their lengths (uint32 each) and the parts.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

__all__ = ["EXIT_MEMORY", "RETIRING", "FrameBuffer", "FrameError", "Op", "Status", "pack"]

_HEAD = struct.Struct("!IBB")
_SIZE = struct.Struct("!I")

EXIT_MEMORY: Final = 71
"""Exit status of a worker in which Python itself ran out of memory."""

RETIRING: Final = 0x80
"""Bit in a reply's kind: the worker ends after this reply, because it has grown too big to serve another call."""


class Op(IntEnum):
    """What a worker is asked. The parts are bytes; texts are UTF-8, lists of names are joined by a comma."""

    JQ = 1
    """program, names of variables, JSON array of the input and the variables' values -> `OK` with the one output."""
    COMPILE = 2
    """program, names of variables -> `OK`."""
    DECIDE = 3
    """sha256 of the graph, the graph or nothing, JSON input, "1" to trace -> `OK` or `MISSING`."""
    VALIDATE = 4
    """graph -> `OK`."""
    IMAGE = 5
    """what is wanted, JSON; an image file -> `OK` with its pixels, which are no JSON."""
    TEMPLATE = 6
    """template, JSON object of its variables -> `OK` with the text, as JSON."""


class Status(IntEnum):
    """How a worker answers. Every answer has one part, JSON."""

    OK = 1
    """The result."""
    READY = 2
    """Sent once, when the worker has given up its rights and waits for calls."""
    MISSING = 3
    """The graph of that hash is not here any more; send it along."""
    JQ_SYNTAX = 10
    """message, line, column (both from 1, in characters)."""
    JQ_FORBIDDEN = 11
    """name, line, column."""
    JQ_RUNTIME = 12
    """message."""
    JQ_SEVERAL = 13
    """Nothing more: the program has more than one output."""
    DECISION_INVALID = 20
    """message, node (id or empty)."""
    DECISION_RUNTIME = 21
    """message, node (id or empty)."""
    TOO_LARGE = 30
    """bytes: the size of the output."""
    TOO_DEEP = 31
    """Nothing more: the output is nested too deeply."""
    IMAGE_INVALID = 40
    """message."""
    TEMPLATE_INVALID = 50
    """message."""


class FrameError(Exception):
    """The peer sent bytes that are no frame, or a frame that is too large."""


def pack(kind: int, *parts: bytes) -> bytes:
    """One frame."""
    lengths = struct.pack(f"!{len(parts)}I", *map(len, parts))
    size = _HEAD.size - _SIZE.size + len(lengths) + sum(map(len, parts))
    return b"".join((_HEAD.pack(size, kind, len(parts)), lengths, *parts))


class FrameBuffer:
    """Collects received bytes and gives them back as frames.

    Args:
        max_bytes: the largest frame accepted.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the socket."""
        self._data += data

    def take(self) -> tuple[int, list[bytes]] | None:
        """The kind and the parts of the next frame; None while it is not complete.

        Raises:
            FrameError: the bytes are no frame, or the frame is larger than `max_bytes`.
        """
        data = self._data
        if len(data) < _HEAD.size:
            return None
        size, kind, count = _HEAD.unpack_from(data)
        end = _SIZE.size + size
        if size > self._max_bytes:
            raise FrameError(f"a frame of {size} bytes is larger than {self._max_bytes}")
        if len(data) < end:
            return None
        at = _HEAD.size + 4 * count
        if at > end:
            raise FrameError("a frame is shorter than its list of parts")
        parts = []
        for length in struct.unpack_from(f"!{count}I", data, _HEAD.size):
            parts.append(bytes(data[at : at + length]))
            at += length
        if at != end:
            raise FrameError("a frame's parts do not add up to its size")
        del data[:end]
        return kind, parts
