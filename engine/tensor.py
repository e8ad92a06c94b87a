"""Tensors as the Open Inference Protocol names them: datatypes, raw and typed contents, checks.

Messages and transports live in `engine.servicers`; here there are only bytes, lists and arrays.

In memory a tensor is a numpy array in row-major order; BYTES is an object array of `bytes`, BF16 has the dtype of
`ml_dtypes`. FP16 and BF16 travel raw only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from engine.errors import TensorError

__all__ = [
    "BF16",
    "DATATYPES",
    "Tensor",
    "TensorSpec",
    "check_described",
    "check_tensor",
    "datatype_of",
    "decode_raw",
    "decode_typed",
    "encode_raw",
    "texts_tensor",
    "typed_field",
]

Tensor = NDArray[Any]

DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BYTES": np.dtype(object),
}
"""Protocol name to numpy dtype, little-endian as on the wire."""

BF16 = DATATYPES["BF16"]
"""The upper half of an FP32; numpy calls it neither a fraction nor anything else that it knows."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}

_TYPED_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_MAX_RANK = 16
_MAX_EMPTY = 2**20
"""What the axes of a tensor without elements may come to: one that holds something is bounded by its own bytes."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model wants or gives: name, protocol datatype, shape; -1 stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def datatype_of(array: Tensor) -> str:
    """The protocol's name for an array's dtype.

    Raises:
        TensorError: the protocol has no such type.
    """
    name = _NAMES.get(array.dtype) or _NAMES.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise TensorError("", f"numpy type {array.dtype} has no datatype in the protocol")
    return name


def typed_field(name: str, datatype: str) -> str:
    """The field of InferTensorContents that carries a datatype, for example `fp32_contents`.

    Raises:
        TensorError: the datatype is unknown, or travels in raw contents only.
    """
    if datatype not in DATATYPES:
        raise _unknown(name, datatype)
    try:
        return _TYPED_FIELDS[datatype]
    except KeyError:
        raise TensorError(name, f"{datatype} has no typed contents; send it in raw_input_contents") from None


def decode_raw(name: str, datatype: str, shape: Sequence[int], data: bytes) -> Tensor:
    """An array from raw contents; numbers share the memory of `data` and are read-only.

    Raises:
        TensorError: unknown datatype, a bad shape, or a byte length that does not fit the two.
    """
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise _unknown(name, datatype)
    shape = tuple(shape)
    count = _count(name, shape)
    if datatype == "BYTES":
        return _split_bytes(name, count, data).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise TensorError(
            name, f"{datatype} of shape {list(shape)} is {count * dtype.itemsize} bytes, {len(data)} were sent"
        )
    if datatype == "BOOL" and data.translate(None, b"\x00\x01"):
        raise TensorError(name, "BOOL holds a byte that is neither 0 nor 1")
    return np.frombuffer(data, dtype).reshape(shape)


def decode_typed(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """An array from the typed field that `typed_field` names.

    Raises:
        TensorError: unknown datatype, a bad shape, a count that does not fit it, or a value out of range.
    """
    typed_field(name, datatype)
    count = _count(name, shape)
    if len(values) != count:
        raise TensorError(name, f"shape {list(shape)} holds {count} elements, {len(values)} were sent")
    if datatype == "BYTES":
        array = np.empty(count, object)
        array[:] = [bytes(value) for value in values]
        return array.reshape(tuple(shape))
    dtype = DATATYPES[datatype]
    try:
        with np.errstate(over="raise"):
            natural = np.array(values, dtype)
    except (ArithmeticError, ValueError, TypeError):
        raise TensorError(name, f"holds a value that is no {datatype}") from None
    whole = dtype.kind not in "iub" or not count or np.asarray(values).dtype.kind in "iub"
    if not whole and not all(isinstance(value, int) for value in values):  # numpy makes fractions of large UINT64
        raise TensorError(name, f"holds a value that is no {datatype}")
    return natural.reshape(tuple(shape))


def encode_raw(array: Tensor) -> bytes:
    """Raw contents of an array: row-major, little-endian; each element of BYTES behind its uint32 length."""
    if array.dtype == object:
        parts: list[bytes] = []
        for value in array.ravel():
            parts += (struct.pack("<I", len(value)), value)
        return b"".join(parts)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def texts_tensor(texts: Sequence[str]) -> Tensor:
    """Texts as BYTES [n]."""
    array = np.empty(len(texts), object)
    array[:] = [text.encode() for text in texts]
    return array


def check_tensor(spec: TensorSpec, array: Tensor) -> None:
    """See that an array is what a model wants.

    Raises:
        TensorError: another datatype, rank or length of an axis.
    """
    check_described(spec, datatype_of(array), array.shape)


def check_described(spec: TensorSpec, datatype: str, shape: Sequence[int]) -> None:
    """See that a tensor is what a model wants, by what is said of it.

    Raises:
        TensorError: another datatype, rank or length of an axis.
    """
    if datatype != spec.datatype:
        raise TensorError(spec.name, f"the model wants {spec.datatype}, {datatype} was sent")
    fits = len(spec.shape) == len(shape)
    for want, have in zip(spec.shape, shape, strict=False):  # a plain loop: it is gone through for every tensor
        fits = fits and want in (-1, have)
    if not fits:
        sent = f"{list(shape)} was" if len(shape) <= _MAX_RANK else f"{len(shape)} axes were"
        raise TensorError(spec.name, f"the model wants shape {list(spec.shape)} (-1 is any length), {sent} sent")


def _unknown(name: str, datatype: str) -> TensorError:
    return TensorError(name, f"datatype {datatype[:32]!r} is not known; known are {', '.join(DATATYPES)}")


def _count(name: str, shape: Sequence[int]) -> int:
    """The number of elements, in integers without an end, so that huge axes cannot wrap around."""
    if len(shape) > _MAX_RANK:
        raise TensorError(name, f"has {len(shape)} axes; at most {_MAX_RANK} are allowed")
    for axis, length in enumerate(shape):
        if length < 0:
            raise TensorError(name, f"axis {axis} of its shape is {length}; a length is never negative")
    count = math.prod(shape)
    span = count or math.prod(max(1, length) for length in shape)
    if max(shape, default=0) >= 2**31 or span >= 2**40:
        raise TensorError(name, f"shape {list(shape)} is too large")
    if count == 0 and span > _MAX_EMPTY:
        raise TensorError(
            name, f"shape {list(shape)} has no elements; its other axes may come to {_MAX_EMPTY}, and come to {span}"
        )
    return count


def _split_bytes(name: str, count: int, data: bytes) -> Tensor:
    """Take `count` elements apart, each a little-endian uint32 length and that many bytes."""
    if len(data) < 4 * count:
        raise TensorError(name, f"BYTES of {count} elements needs at least {4 * count} bytes, {len(data)} were sent")
    array = np.empty(count, object)
    offset = 0
    for index in range(count):
        start = offset + 4
        end = start + int.from_bytes(data[offset:start], "little")
        if start > len(data) or end > len(data):
            raise TensorError(name, f"BYTES element {index} runs past the end of the data")
        array[index] = data[start:end]
        offset = end
    if offset != len(data):
        raise TensorError(name, f"{len(data) - offset} bytes are left over after {count} BYTES elements")
    return array
