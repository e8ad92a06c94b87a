"""JSON values as tensors of the Open Inference Protocol, and back: what a flow sends a model and gets from it."""

from __future__ import annotations

import binascii
import math
import struct
from typing import Any

import msgspec

from mesh.errors import InvalidError

__all__ = ["Tensor", "from_raw", "is_numeric", "to_tensor"]

_FORMATS = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "e", "FP32": "f", "FP64": "d", "BOOL": "?",
}  # fmt: skip
_NUMBERS = frozenset(_FORMATS) - {"BOOL"}


class Tensor(msgspec.Struct, frozen=True):
    """A tensor on its way: datatype, shape, and its values row-major, little-endian."""

    datatype: str
    shape: tuple[int, ...]
    raw: bytes


def to_tensor(name: str, value: Any, datatype: str = "") -> Tensor:  # noqa: ANN401 -- any JSON
    """A list, or lists in lists, as a tensor.

    Args:
        name: the input's name, for errors.
        value: the list; a single value stands for a list of one. `{b64: …}` stands for bytes, in base64.
        datatype: what the model takes. Where it is not known, texts are BYTES, truth values BOOL, whole numbers INT64,
            other numbers FP32.

    Raises:
        InvalidError: it is no regular list of one kind of value, or its numbers do not fit the datatype.
    """
    values = value if isinstance(value, list) else [value]
    shape: list[int] = []
    level: Any = values
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    flat: list[Any] = []
    _flatten(name, values, tuple(shape), flat)
    kinds = {type(item) for item in flat}
    if kinds <= {str, bytes}:
        encoded = (item if isinstance(item, bytes) else item.encode() for item in flat)
        return Tensor("BYTES", tuple(shape), b"".join(_length_first(item) for item in encoded))
    if kinds == {bool}:
        return Tensor("BOOL", tuple(shape), struct.pack(f"<{len(flat)}?", *flat))
    if kinds <= {int, float}:
        chosen = datatype if datatype in _NUMBERS else "INT64" if kinds == {int} else "FP32"
        return Tensor(chosen, tuple(shape), _numbers(name, flat, chosen))
    raise InvalidError(f"inputs.{name}", "must hold one kind of value: texts, numbers or truth values")


def is_numeric(value: Any) -> bool:  # noqa: ANN401 -- any JSON
    """Whether the first value in a list, or in lists in lists, is a number."""
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(name: str, flat: list[Any], datatype: str) -> bytes:
    if not datatype.startswith("FP"):
        if not all(isinstance(item, int) or item.is_integer() for item in flat):
            raise InvalidError(f"inputs.{name}", f"must hold whole numbers, the model takes {datatype}")
        flat = [int(item) for item in flat]
    try:
        return struct.pack(f"<{len(flat)}{_FORMATS[datatype]}", *flat)
    except (struct.error, OverflowError):
        raise InvalidError(f"inputs.{name}", f"holds a number that {datatype} cannot hold") from None


def _flatten(name: str, value: Any, shape: tuple[int, ...], flat: list[Any]) -> None:  # noqa: ANN401 -- any JSON
    if not shape:
        if isinstance(value, dict) and set(value) == {"b64"}:
            flat.append(_bytes_of(name, value["b64"]))
            return
        if isinstance(value, (list, dict)) or value is None:
            raise InvalidError(f"inputs.{name}", "must be a list of values, or lists of the same length in a list")
        flat.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise InvalidError(f"inputs.{name}", "must be a list of values, or lists of the same length in a list")
    for item in value:
        _flatten(name, item, shape[1:], flat)


def _bytes_of(name: str, text: Any) -> bytes:  # noqa: ANN401 -- any JSON
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (TypeError, ValueError):
        raise InvalidError(f"inputs.{name}", "holds a `b64` that is no base64") from None


def _length_first(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def from_raw(datatype: str, shape: tuple[int, ...], raw: bytes) -> Any:  # noqa: ANN401 -- any JSON
    """A tensor's values as lists in lists; numbers that JSON does not know become null.

    Raises:
        InvalidError: the datatype has no values in JSON.
    """
    if datatype != "BYTES" and datatype not in _FORMATS:
        raise InvalidError("outputs", f"{datatype} cannot be read into a flow")
    flat: list[Any] = []
    if datatype == "BYTES":
        at = 0
        while at < len(raw):
            size = int.from_bytes(raw[at : at + 4], "little")
            flat.append(raw[at + 4 : at + 4 + size].decode(errors="replace"))
            at += 4 + size
    else:
        code = _FORMATS[datatype]
        flat = list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))
        if datatype.startswith("FP"):
            flat = [item if math.isfinite(item) else None for item in flat]
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        flat = [flat[row * size : (row + 1) * size] for row in range(math.prod(shape[:axis]))]
    return flat
