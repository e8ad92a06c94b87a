"""Finds the step of a graph that can end the process that runs it: a division that overflows.

ONNX Runtime (1.32) divides signed numbers of 32 and 64 bits with the processor's own instruction, which traps when the
smallest of them is divided by -1; by zero is looked at. What is looked for is such a division whose divisor no constant
says, and neither side of which is a length.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.shape_inference

from engine.adapters.sizes import graphs_in

__all__ = ["dangerous_division"]

_PASSES_ON = frozenset(
    {"Cast", "Concat", "Gather", "Identity", "Max", "Min", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose outputs are lengths where what is passed on is."""
_LENGTHS = frozenset({"NonZero", "Shape", "Size"})
_WIDE = frozenset({onnx.TensorProto.INT32, onnx.TensorProto.INT64})
"""Types that are divided as they are; narrower ones are made wider first."""
_INDICES = frozenset({"Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze"})
"""Those of which only the first input is passed on."""


def dangerous_division(model: onnx.ModelProto) -> str | None:
    """The name (or output) of a step that can end the process; None where there is none.

    Steps whose types cannot be told are taken for harmless.
    """
    if not any(node.op_type == "Div" for graph in graphs_in(model.graph) for node in graph.node):
        return None
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=False)
    except Exception:  # noqa: BLE001 -- of what it does not know
        inferred = model
    constants: dict[str, np.ndarray] = {}
    makers: dict[str, onnx.NodeProto] = {}
    for graph in graphs_in(inferred.graph):
        constants |= _constants(graph)
        makers |= {name: node for node in graph.node for name in node.output if name}
    for graph in graphs_in(inferred.graph):
        wide = _wide(graph)
        for node in graph.node:
            if node.op_type != "Div" or len(node.input) != 2 or not wide & {*node.input, *node.output}:
                continue
            dividend, divisor = node.input
            if not _safe_divisor(divisor, constants, makers) and not _is_length(dividend, constants, makers):
                return node.name or node.output[0]
    return None


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The small whole numbers that are written down in a graph."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            values = [each.t for each in node.attribute if each.name == "value"]
            tensors |= dict.fromkeys(node.output[:1], *values[:1]) if values else {}
    given = {each.name for each in graph.input}  # whoever asks may say something else
    return {
        name: onnx.numpy_helper.to_array(tensor)
        for name, tensor in tensors.items()
        if tensor.data_type in _WIDE and name not in given and tensor.data_location != onnx.TensorProto.EXTERNAL
    }


def _wide(graph: onnx.GraphProto) -> set[str]:
    """What holds such whole numbers."""
    typed = (*graph.input, *graph.output, *graph.value_info)
    wide = {each.name for each in typed if each.type.tensor_type.elem_type in _WIDE}
    return wide | {tensor.name for tensor in graph.initializer if tensor.data_type in _WIDE}


def _safe_divisor(name: str, constants: Mapping[str, np.ndarray], makers: Mapping[str, onnx.NodeProto]) -> bool:
    value = constants.get(name)
    return bool((value != -1).all()) if value is not None else _is_length(name, constants, makers)


def _is_length(name: str, constants: Mapping[str, np.ndarray], makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether it is made of lengths of tensors and numbers above zero alone, which neither -1 nor the smallest is."""
    left, seen = [name], set[str]()
    while left:
        each = left.pop()
        if each in seen or not each:
            continue
        seen.add(each)
        value, maker = constants.get(each), makers.get(each)
        if value is not None:
            if not bool((value >= 0).all()):
                return False
        elif maker is None:
            return False
        elif maker.op_type in _PASSES_ON:
            left += maker.input[:1] if maker.op_type in _INDICES else maker.input
        elif maker.op_type not in _LENGTHS:
            return False
    return True
