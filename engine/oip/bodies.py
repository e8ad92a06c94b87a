"""Bodies of REST requests: unpacked within a bound, and parted into the JSON and the bytes that follow it.

What the JSON says is read in `engine.oip.requests`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from engine.errors import BodyError, BodyTooLargeError

__all__ = ["LENGTH_HEADER", "MAX_BODY_BYTES", "Body", "part", "unpack"]

LENGTH_HEADER = "inference-header-content-length"
"""How many bytes of a body are JSON; the rest are tensors. Without it, all of them are."""
MAX_BODY_BYTES = 64 * 1024 * 1024
"""What a packed body may come to; as much as a message between our services may have."""
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True)
class Body:
    """A body in its two parts; `tensors` is empty where all of it is JSON."""

    json: memoryview
    tensors: memoryview


def unpack(data: bytes, encoding: str) -> bytes:
    """A body as it was before it was packed.

    Args:
        data: as it came.
        encoding: the header `Content-Encoding`: gzip, deflate (RFC 1950, and the bare RFC 1951 that some send),
            identity, or empty.

    Raises:
        BodyError: another encoding, or the bytes are not packed so.
        BodyTooLargeError: it would come to more than `MAX_BODY_BYTES`.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return data
    window = _WINDOWS.get(name)
    if window is None:
        raise BodyError(f"Content-Encoding: {name[:32]!r} is not known; known are gzip and deflate")
    if name == "deflate" and not _has_zlib_header(data):
        window = -zlib.MAX_WBITS
    unpacker = zlib.decompressobj(window)
    try:
        unpacked = unpacker.decompress(data, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise BodyError(f"the body is not packed with {name}, as Content-Encoding says") from None
    if len(unpacked) > MAX_BODY_BYTES:
        raise BodyTooLargeError(f"the body comes to more than {MAX_BODY_BYTES} bytes once it is unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise BodyError(f"the body's {name} is cut off, or something follows it")
    return unpacked


def part(data: bytes, length: str | None) -> Body:
    """A body, parted where its header says.

    Args:
        data: the body, unpacked.
        length: the value of `Inference-Header-Content-Length`; None where it was not sent.

    Raises:
        BodyError: the header is no number, or points past the body's end.
    """
    view = memoryview(data)
    if length is None:
        return Body(view, view[len(view) :])
    if not (length.isascii() and length.isdigit() and len(length) <= 10):
        raise BodyError(f"Inference-Header-Content-Length: {length[:32]!r} is no number of bytes")
    end = int(length)
    if end > len(view):
        raise BodyError(f"Inference-Header-Content-Length: says {end} bytes, and the body has {len(view)}")
    return Body(view[:end], view[end:])


def _has_zlib_header(data: bytes) -> bool:
    """Whether the two bytes of RFC 1950 (section 2.2) are there."""
    return len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
