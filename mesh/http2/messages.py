"""gRPC's own layer on a stream: what a request's headers say, how messages are framed, how an answer ends."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

import grpc

from mesh.http2.headers import Headers, field

__all__ = [
    "ANSWER_HEADERS",
    "Head",
    "Message",
    "Messages",
    "StatusError",
    "answer_headers",
    "framed",
    "read_head",
    "trailers",
]

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_INFLATES = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_OWN = frozenset({"te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-message-type"})
"""What belongs to gRPC and is no metadata."""
_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~:"
"""Of which a header's name is made (RFC 9113, 8.2.1)."""
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
        texts: of these what is text, by name; of a name that comes again the last one.
        timeout_s: how long the caller waits; None where it does not say.
        encoding: how messages are compressed; `identity` where they are not.
        length: bytes of the body; None where the headers do not say.
    """

    path: str
    metadata: tuple[tuple[str, str | bytes], ...]
    texts: Mapping[str, str]
    timeout_s: float | None
    encoding: str
    length: int | None = None


def read_head(headers: Headers | None) -> Head:
    """Read a request's headers.

    Raises:
        StatusError: they are no gRPC request's, or more than is taken.
    """
    if headers is None:
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "the request's headers are larger than is taken")
    _check_bytes(headers)
    own: dict[str, str] = {}
    metadata: list[tuple[str, str | bytes]] = []
    regular, length = False, None
    for raw, value in headers:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        if name[:1] == ":":
            if regular or name in own or name not in _PSEUDO:
                raise StatusError(grpc.StatusCode.INTERNAL, f"the header {name[:32]!r} is unknown or out of place")
            own[name] = text
            continue
        regular = True
        if name in _OWN:
            own[name] = text
        elif name == "content-length":
            length = _length(text, length)
        elif name.endswith("-bin"):
            metadata += [(name, _binary(part)) for part in text.split(",")]
        else:
            metadata.append((name, text))
    kind = own.get("content-type", "")
    if own.get(":method") != "POST" or not kind.startswith("application/grpc") or kind[16:17] not in {"", "+", ";"}:
        raise StatusError(grpc.StatusCode.INTERNAL, "this port speaks gRPC: POST, content-type application/grpc")
    encoding = own.get("grpc-encoding", "identity")
    if encoding != "identity" and encoding not in _INFLATES:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"messages compressed with {encoding[:32]!r} are not taken")
    texts = {name: value for name, value in metadata if isinstance(value, str)}
    return Head(own.get(":path", ""), tuple(metadata), texts, _seconds(own.get("grpc-timeout", "")), encoding, length)


def _check_bytes(headers: Headers) -> None:
    """See that names and values are made of what they may be made of (RFC 9113, 8.2.1); all at once, for speed."""
    names = b"".join([name for name, _ in headers])
    values = b"".join([value for _, value in headers])
    if names.translate(None, _NAME_BYTES) or b"\n" in values or b"\r" in values or b"\0" in values:
        raise StatusError(grpc.StatusCode.INTERNAL, "a header has a byte that no header has: names are in lower case")


def _binary(text: str) -> bytes:
    text = text.strip(" ")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise StatusError(grpc.StatusCode.INTERNAL, "a header that ends in -bin is not base64") from None


def _length(text: str, said: int | None) -> int:
    """Bytes of a body; whoever says it twice says the same (RFC 9110, 8.6)."""
    if not text.isdecimal() or not text.isascii() or len(text) > 18 or said not in (None, int(text)):
        raise StatusError(grpc.StatusCode.INTERNAL, f"content-length: {text[:32]!r} is none, or not the only one")
    return int(text)


def _seconds(timeout: str) -> float | None:
    if not timeout:
        return None
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1])
    if unit is None or not digits.isdecimal() or not digits.isascii() or len(digits) > 8:
        raise StatusError(grpc.StatusCode.INTERNAL, f"grpc-timeout: {timeout[:16]!r} is none")
    return int(digits) * unit


class Message(NamedTuple):
    """One message of a body.

    Attributes:
        flag: whether it is compressed.
        body: as it came.
        fresh: bytes of it, and of what stands before it, that came last.
    """

    flag: int
    body: bytes
    fresh: int


class Messages:
    """Takes the messages of a body apart; compressed ones stay so until somebody wants them.

    Args:
        max_bytes: of one message.
        encoding: how compressed ones are.
    """

    __slots__ = ("_body", "_encoding", "_head", "_max_bytes")

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._head = b""
        self._body = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._head) + len(self._body)

    def whole(self, data: bytes) -> Message | None:
        """The one message that this is from beginning to end, as most bodies are; None where it is not."""
        size = len(data)
        if not self._head and size >= 5 and int.from_bytes(data[1:5], "big") == size - 5 <= self._max_bytes:
            return Message(data[0], data[5:], size)
        return None

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now.

        Raises:
            StatusError: one is too large.
        """
        if (one := self.whole(data)) is not None:
            return [one]
        found: list[Message] = []
        at, size = 0, len(data)
        while at < size:
            begin = at
            if len(self._head) < 5:
                at = min(size, at + 5 - len(self._head))
                self._head += data[begin:at]
                if len(self._head) < 5:
                    break
            end = at + self._length() - len(self._body)
            if end > size:
                self._body += data[at:]
                break
            body = data[at:end]
            if self._body:
                self._body += body
                body, self._body = bytes(self._body), bytearray()
            found.append(Message(self._head[0], body, end - begin))
            self._head, at = b"", end
        return found

    def _length(self) -> int:
        length = int.from_bytes(self._head[1:], "big")
        if length > self._max_bytes:
            raise StatusError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {length} bytes; at most {self._max_bytes} are taken",
            )
        return length

    def plain(self, found: Message) -> bytes:
        """A message as it was before it was compressed, if it was.

        Raises:
            StatusError: it cannot be unpacked, or is too large then.
        """
        flag, message = found.flag, found.body
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
        block += field(
            b"grpc-message", quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", errors="replace").encode()
        )
    return block + _fields(metadata)


def _fields(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    block = b""
    for name, value in metadata:
        if isinstance(value, bytes):
            value = base64.b64encode(value).rstrip(b"=").decode() if name.endswith("-bin") else value.decode("latin-1")  # noqa: PLW2901
        block += field(name.lower().encode(), value.encode(errors="replace"))
    return block
