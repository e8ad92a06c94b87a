"""JSON values as tensors of the Open Inference Protocol, and back: what a flow sends a model and gets from it."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from mesh.errors import InvalidError

__all__ = ["Tensor", "from_raw", "to_tensor"]

_FORMATS = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "e", "FP32": "f", "FP64": "d", "BOOL": "?",
}  # fmt: skip


class Tensor(msgspec.Struct, frozen=True):
    """A tensor on its way: datatype, shape, and its values row-major, little-endian."""

    datatype: str
    shape: tuple[int, ...]
    raw: bytes


def to_tensor(name: str, value: Any) -> Tensor:  # noqa: ANN401 -- any JSON
    """A list, or lists in lists, as a tensor: texts are BYTES, truth values BOOL, whole numbers INT64, others FP32.

    Raises:
        InvalidError: it is no regular list of one kind of value.
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
    if kinds <= {str}:
        return Tensor("BYTES", tuple(shape), b"".join(_length_first(item.encode()) for item in flat))
    if kinds == {bool}:
        return Tensor("BOOL", tuple(shape), struct.pack(f"<{len(flat)}?", *flat))
    if kinds <= {int, float}:
        whole = all(isinstance(item, int) or item.is_integer() for item in flat)
        if whole and kinds == {int}:
            return Tensor("INT64", tuple(shape), struct.pack(f"<{len(flat)}q", *flat))
        return Tensor("FP32", tuple(shape), struct.pack(f"<{len(flat)}f", *flat))
    raise InvalidError(f"inputs.{name}", "must hold one kind of value: texts, numbers or truth values")


def _flatten(name: str, value: Any, shape: tuple[int, ...], flat: list[Any]) -> None:  # noqa: ANN401 -- any JSON
    if not shape:
        if isinstance(value, (list, dict)) or value is None:
            raise InvalidError(f"inputs.{name}", "must be a list of values, or lists of the same length in a list")
        flat.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise InvalidError(f"inputs.{name}", "must be a list of values, or lists of the same length in a list")
    for item in value:
        _flatten(name, item, shape[1:], flat)


def _length_first(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def from_raw(datatype: str, shape: tuple[int, ...], raw: bytes) -> Any:  # noqa: ANN401 -- any JSON
    """A tensor's values as lists in lists."""
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
    for size in reversed(shape[1:]):
        flat = [flat[at : at + size] for at in range(0, len(flat), size)] if size else []
    return flat
