"""Elements of tensors as JSON, and as the protocol's raw contents; one becomes the other here.

JSON has no NaN and no infinity, and BYTES are texts there: what cannot be said travels as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from engine.errors import TensorError
from engine.tensor import DATATYPES, Tensor, decode_raw, decode_typed, encode_raw

__all__ = ["json_of_raw", "raw_of_json"]

_MAX_DEPTH = 17
"""Axes that a tensor may have, and one more to be told from too many."""
_BLANK = b" \t\r\n"
_PIECE_BYTES = 1 << 18
_PIECE_VALUES = 1 << 15
"""So much is read or written in a row: about three milliseconds, in which no other thread runs."""
_HALVES = ("FP16", "BF16")
"""They have no typed contents; their JSON is that of FP32."""


def raw_of_json(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> bytes:
    """Raw contents of a tensor whose elements are JSON, as one flat list or nested as its shape is.

    Raises:
        TensorError: they are not of the datatype, or nested otherwise, or not as many as the shape holds.
    """
    if datatype not in DATATYPES:
        raise TensorError(name, f"datatype {datatype[:32]!r} is not known; known are {', '.join(DATATYPES)}")
    depth = _depth(data)
    if not 1 <= depth < _MAX_DEPTH or depth not in (1, len(shape)):
        raise TensorError(name, f"`data` is nested {depth} deep; send one flat list, or as deep as the shape")
    if depth == 1 and datatype != "BYTES" and len(data) > _PIECE_BYTES:
        return _joined(name, datatype, shape, [_numbers(name, datatype, piece) for piece in _pieces(bytes(data))])
    values = _values(name, datatype, depth, data)
    if depth > 1:
        values = _flat(name, values, shape)
    return encode_raw(_array(name, datatype, shape, values))


def json_of_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> msgspec.Raw:
    """The elements of raw contents as JSON: one flat list.

    Raises:
        TensorError: JSON cannot say them: NaN, infinity, or bytes that are no UTF-8.
    """
    array = decode_raw(name, datatype, shape, raw).ravel()
    if datatype in _HALVES:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TensorError(name, "holds NaN or infinity, which JSON does not know; ask for it with `binary_data: true`")
    pieces = [array[at : at + _PIECE_VALUES] for at in range(0, array.size, _PIECE_VALUES)]
    listed = (_texts(name, piece) if array.dtype == object else piece.tolist() for piece in pieces)
    return msgspec.Raw(b"[" + b",".join(msgspec.json.encode(values)[1:-1] for values in listed) + b"]")


def _values(name: str, datatype: str, depth: int, data: bytes | memoryview) -> list[Any]:
    try:
        return _decoder(_element(datatype), depth).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TensorError(name, f"`data` is no {datatype}: {str(error)[:200].replace('`$', '`data')}") from None


def _array(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    if datatype == "BYTES":
        return decode_typed(name, datatype, shape, _encoded(name, values))
    if datatype in _HALVES:
        return _narrowed(name, datatype, decode_typed(name, "FP32", shape, values))
    return decode_typed(name, datatype, shape, values)


def _pieces(data: bytes) -> Iterator[bytes]:
    """A flat list of numbers as several: other threads get their turn between them."""
    text = data.strip()[1:-1]
    at = 0
    while at < len(text):
        end = text.find(b",", at + _PIECE_BYTES)
        end = len(text) if end < 0 else end
        yield b"[" + text[at:end] + b"]"
        at = end + 1


def _numbers(name: str, datatype: str, piece: bytes) -> Tensor:
    values = _values(name, datatype, 1, piece)
    return _array(name, datatype, [len(values)], values)


def _joined(name: str, datatype: str, shape: Sequence[int], pieces: Sequence[Tensor]) -> bytes:
    found, wanted = sum(piece.size for piece in pieces), math.prod(shape)
    if found != wanted:
        raise TensorError(name, f"shape {list(shape)} holds {wanted} elements, {found} were sent")
    raw = b"".join(map(encode_raw, pieces))
    decode_raw(name, datatype, shape, raw)  # a shape that cannot be is refused
    return raw


def _encoded(name: str, values: Sequence[str]) -> list[bytes]:
    try:
        return [value.encode() for value in values]
    except UnicodeEncodeError:
        raise TensorError(name, "`data` holds half of a surrogate pair, which is no text") from None


def _texts(name: str, array: Tensor) -> list[str]:
    try:
        return [value.decode() for value in array]
    except UnicodeDecodeError:
        raise TensorError(name, "holds bytes that are not UTF-8; ask for it with `binary_data: true`") from None


def _depth(data: memoryview) -> int:
    """How many lists begin before the first element."""
    depth = 0
    for byte in data:
        if byte == 0x5B:  # [
            depth += 1
            if depth >= _MAX_DEPTH:
                break
        elif byte not in _BLANK:
            break
    return depth


def _element(datatype: str) -> type:
    if datatype == "BYTES":
        return str
    if datatype == "BOOL":
        return bool
    return float if datatype in ("FP32", "FP64", *_HALVES) else int


@lru_cache(maxsize=128)
def _decoder(element: type, depth: int) -> msgspec.json.Decoder[list[Any]]:
    nested: Any = element
    for _ in range(depth):
        nested = list[nested]
    return msgspec.json.Decoder(nested)


def _flat(name: str, values: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """The elements of lists within lists, row-major.

    Raises:
        TensorError: they are not as long as the shape says, at some level.
    """
    level: list[Any] = [values]
    for length in shape:
        if any(len(each) != length for each in level):
            raise TensorError(name, f"`data` is not nested as the shape {list(shape)} says")
        level = list(chain.from_iterable(level))
    return level


def _narrowed(name: str, datatype: str, array: Tensor) -> Tensor:
    """FP32 in half of its bits, rounded to the nearest."""
    with np.errstate(over="ignore"):
        narrow: Tensor = array.astype(DATATYPES[datatype])
    if not np.isfinite(narrow).all():
        raise TensorError(name, f"holds a value that is no {datatype}")
    return narrow
