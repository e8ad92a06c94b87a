"""Runs of graphs with BF16: the runtime takes it from numpy and gives it back as memory only, never as an array.

Measured with ONNX Runtime 1.32: arrays of `ml_dtypes` are refused, `OrtValue.numpy` and DLPack know no such type.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from engine.runtime.onnx import onnxruntime
from engine.tensor import BF16, Tensor

__all__ = ["run_with_bfloat16"]


def run_with_bfloat16(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    feeds: Mapping[str, Tensor],
    options: onnxruntime.RunOptions,
) -> list[Tensor]:
    """The named outputs.

    Args:
        session: of the runtime.
        names: of the outputs.
        feeds: the inputs by name; none is text.
        options: of the run.
    """
    kept = {name: np.ascontiguousarray(array) for name, array in feeds.items()}  # values share their memory
    values = {name: _value(array) for name, array in kept.items()}
    return [_array(value) for value in session.run_with_ort_values(names, values, options)]


def _value(array: Tensor) -> Any:  # noqa: ANN401 -- the runtime's own type has no stub
    if array.dtype == BF16:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: Any) -> Tensor:  # noqa: ANN401 -- as above
    """A tensor of the runtime's as an array of its own memory."""
    if value.data_type() != "tensor(bfloat16)":
        array: Tensor = value.numpy()
        return array
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(data, BF16).reshape(value.shape())
