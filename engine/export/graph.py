"""A small builder for ONNX graphs: operators are called, names are made up, weights are added once.

What a particular network looks like lives in the exporters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GraphBuilder"]

_IR_VERSION = 10
_OPSET = 23


class GraphBuilder:
    """Collects nodes and weights and makes a checked model of them.

    Only operators of the standard `ai.onnx` domain are used, so that any runtime can read the file.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, value: NDArray[np.generic]) -> str:
        """Add an initializer and return its name; the same name again returns the first one."""
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        """A constant int64 vector, shape (len(values),)."""
        return self.weight("int64_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: int) -> str:
        """A constant int64 without axes."""
        return self.weight(f"int64_scalar_{value}", np.array(value, np.int64))

    def op(self, operator: str, *inputs: str, **attributes: float | list[int]) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(operator, *inputs, outputs=1, **attributes)[0]

    def ops(self, operator: str, *inputs: str, outputs: int, **attributes: float | list[int]) -> list[str]:
        """Add a node with several outputs and return their names."""
        names = [f"{operator}_{len(self._nodes)}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))  # type: ignore[arg-type]
        return names

    def build(
        self, inputs: dict[str, list[str]], output: str, output_shape: list[str | int], value: str
    ) -> onnx.ModelProto:
        """Close the graph.

        Args:
            inputs: int64 inputs and the names of their axes.
            output: name of the float32 output.
            output_shape: its axes; a name stands for any length.
            value: the name that `op` returned for it.

        Raises:
            onnx.checker.ValidationError: the graph is not a valid model.
        """
        axes = {name: helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()}
        return self.build_of(
            list(axes.values()), {value: helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)}
        )

    def build_of(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Mapping[str, onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Close a graph of any inputs and outputs.

        Args:
            inputs: what it takes.
            outputs: what it gives, by the names that `op` returned for them.

        Raises:
            onnx.checker.ValidationError: the graph is not a valid model.
        """
        for value, output in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [output.name]))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            list(inputs),
            list(outputs.values()),
            list(self._weights.values()),
        )
        model = helper.make_model(
            graph, producer_name="tiation", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model
