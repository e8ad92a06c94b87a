"""gRPC's own layer on a stream: what a request's headers say, how messages are framed, how an answer ends."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import grpc

from mesh.http2.headers import field

__all__ = ["ANSWER_HEADERS", "Head", "Messages", "StatusError", "answer_headers", "framed", "read_head", "trailers"]

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_INFLATES = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_OWN = frozenset({"te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-message-type"})
"""What belongs to gRPC and is no metadata."""
ANSWER_HEADERS = (
    b"\x88" + field(b"content-type", b"application/grpc") + field(b"grpc-accept-encoding", b"identity, deflate, gzip")
)
"""`:status: 200` is the eighth entry of the static table."""
_OK = field(b"grpc-status", b"0")


class StatusError(Exception):
    """A call that cannot be served; gRPC's own status for it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's headers say.

    Attributes:
        path: `/package.Service/Method`.
        metadata: all that is not gRPC's own, in order; binary ones decoded.
        timeout_s: how long the caller waits; None where it does not say.
        encoding: how messages are compressed; `identity` where they are not.
    """

    path: str
    metadata: tuple[tuple[str, str | bytes], ...]
    timeout_s: float | None
    encoding: str


def read_head(headers: list[tuple[bytes, bytes]] | None) -> Head:
    """Read a request's headers.

    Raises:
        StatusError: they are no gRPC request's, or more than is taken.
    """
    if headers is None:
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the request's headers are larger than is taken")
    own: dict[str, str] = {}
    metadata: list[tuple[str, str | bytes]] = []
    for raw, value in headers:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        if name in _OWN or name.startswith(":"):
            own[name] = text
        else:
            metadata.append((name, _binary(text) if name.endswith("-bin") else text))
    if own.get(":method") != "POST" or not own.get("content-type", "").startswith("application/grpc"):
        raise StatusError(grpc.StatusCode.INTERNAL, "this port speaks gRPC: POST, content-type application/grpc")
    encoding = own.get("grpc-encoding", "identity")
    if encoding != "identity" and encoding not in _INFLATES:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"messages compressed with {encoding[:32]!r} are not taken")
    return Head(own.get(":path", ""), tuple(metadata), _seconds(own.get("grpc-timeout", "")), encoding)


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise StatusError(grpc.StatusCode.INTERNAL, "a header that ends in -bin is not base64") from None


def _seconds(timeout: str) -> float | None:
    if not timeout:
        return None
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1])
    if unit is None or not digits.isdecimal() or not digits.isascii() or len(digits) > 8:
        raise StatusError(grpc.StatusCode.INTERNAL, f"grpc-timeout: {timeout[:16]!r} is none")
    return int(digits) * unit


class Messages:
    """Takes the messages of a body apart; compressed ones stay so until somebody wants them.

    Args:
        max_bytes: of one message.
        encoding: how compressed ones are.
    """

    __slots__ = ("_encoding", "_held", "_max_bytes", "_size")

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._held: list[bytes] = []
        self._size = 0

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now, each behind the byte that says whether it is compressed.

        Raises:
            StatusError: one is too large, or wrongly framed.
        """
        if not self._size and len(data) >= 5 and int.from_bytes(data[1:5], "big") == len(data) - 5 <= self._max_bytes:
            return [data[:1] + data[5:]]  # what most bodies are
        self._held.append(data)
        self._size += len(data)
        found: list[bytes] = []
        while self._size >= 5:
            if len(self._held[0]) < 5:
                self._held = [b"".join(self._held)]
            head = self._held[0]
            length = int.from_bytes(head[1:5], "big")
            if length > self._max_bytes:
                raise StatusError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"a message of {length} bytes; at most {self._max_bytes} are taken",
                )
            if self._size < 5 + length:
                break
            body = b"".join(self._held) if len(self._held) > 1 else head
            found.append(body[:1] + body[5 : 5 + length])
            self._held = [body[5 + length :]]
            self._size -= 5 + length
        return found

    def plain(self, flagged: bytes) -> bytes:
        """A message as it was before it was compressed, if it was.

        Raises:
            StatusError: it cannot be unpacked, or is too large then.
        """
        flag, message = flagged[0], flagged[1:]
        if not flag:
            return message
        if flag != 1 or self._encoding == "identity":
            raise StatusError(grpc.StatusCode.INTERNAL, "a message is marked as compressed, and nobody said how")
        inflate = zlib.decompressobj(_INFLATES[self._encoding])
        try:
            plain = inflate.decompress(message, self._max_bytes + 1)
        except zlib.error:
            raise StatusError(grpc.StatusCode.INTERNAL, "a compressed message cannot be unpacked") from None
        if len(plain) > self._max_bytes:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a message of more than {self._max_bytes} bytes once it is unpacked",
            )
        if not inflate.eof:
            raise StatusError(grpc.StatusCode.INTERNAL, "a compressed message is cut off")
        return plain


def framed(message: bytes) -> bytes:
    """A message as it stands in a body."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def answer_headers(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """The header block that begins an answer."""
    return ANSWER_HEADERS + _fields(metadata)


def trailers(code: int, message: str, metadata: Iterable[tuple[str, str | bytes]] = ()) -> bytes:
    """The header block that ends one."""
    if not code and not message and not metadata:
        return _OK
    block = field(b"grpc-status", str(code).encode())
    if message:
        block += field(b"grpc-message", quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode())
    return block + _fields(metadata)


def _fields(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    block = b""
    for name, value in metadata:
        if isinstance(value, bytes):
            value = base64.b64encode(value).rstrip(b"=").decode() if name.endswith("-bin") else value.decode("latin-1")  # noqa: PLW2901
        block += field(name.lower().encode(), value.encode())
    return block
