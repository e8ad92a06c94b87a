"""What goes into a session and comes out, in the protocol's terms: types of tensors, and texts as bytes.

Sessions are opened and run in `engine.runtime.sessions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.errors import ModelFileError, TensorError
from engine.tensor import Tensor, TensorSpec

__all__ = ["MAPS", "spec_of", "to_bytes", "to_text"]

_DATATYPES: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}

MAPS = frozenset({"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"})
"""Types of outputs that are a map a row."""


def spec_of(argument: Any, file: str) -> TensorSpec:  # noqa: ANN401 -- the runtime's own type has no stub
    """An input or output of a file of this name.

    Raises:
        ModelFileError: its type is none that the protocol carries.
    """
    datatype = _DATATYPES.get(argument.type)
    if datatype is None:
        raise ModelFileError(
            f"{file}: {argument.name!r} is of type {argument.type}, which the protocol cannot carry; "
            "export plain tensors (with scikit-learn: zipmap=False)",
            file=file,
        )
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in argument.shape or ())
    return TensorSpec(argument.name, datatype, shape)


def to_text(name: str, array: Tensor) -> Tensor:
    """Bytes as the runtime takes texts.

    Raises:
        TensorError: an element of this input is no UTF-8.
    """
    text = np.empty(array.size, object)
    for index, value in enumerate(array.ravel()):
        try:
            text[index] = value.decode("utf-8")
        except UnicodeDecodeError:
            raise TensorError(name, f"element {index} is not UTF-8") from None
    return text.reshape(array.shape)


def to_bytes(array: Tensor) -> Tensor:
    """Texts of the runtime as UTF-8."""
    data = np.empty(array.size, object)
    data[:] = [str(value).encode() for value in array.ravel()]
    return data.reshape(array.shape)
