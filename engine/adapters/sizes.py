"""Finds the steps of a graph whose output is as large as a value of the request says, and not as its inputs are long.

A few bytes of a request make such a step take all memory there is. What is done about it is
`engine.runtime.sessions`'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx

__all__ = ["graphs_in", "is_sized_by_values"]

_SIZES: Mapping[str, Collection[int]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "CropAndResize": (3,), "DFT": (1,), "Expand": (1,), "HammingWindow": (0,), "HannWindow": (0,), "Loop": (0, 1),
    "MaxUnpool": (2,), "MelWeightMatrix": (0, 1), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Resize": (1, 2, 3),
    "RoiAlign": (1,), "STFT": (1, 3), "Tile": (1,), "Upsample": (1,),
}  # fmt: skip
"""Operators, and which of their inputs say how large the output, or what is needed meanwhile, is."""
_LENGTHS = frozenset({"Shape", "Size", "NonZero", "SequenceLength"})
"""What comes out of these is bounded by how long their input is."""


def is_sized_by_values(model: onnx.ModelProto) -> bool:
    """Whether some step is; functions are taken for such."""
    if model.functions:
        return True
    constants: set[str] = set()
    makers: dict[str, onnx.NodeProto] = {}
    given: set[str] = set()
    for graph in graphs_in(model.graph):
        constants |= {tensor.name for tensor in graph.initializer}
        makers |= {name: node for node in graph.node for name in node.output if name}
        given |= {each.name for each in graph.input}  # whoever asks may say something else than an initializer
    constants -= given
    return any(
        not _is_length(name, constants, makers)
        for graph in graphs_in(model.graph)
        for node in graph.node
        for name in _said(node)
    )


def graphs_in(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all within it."""
    left = [graph]
    while left:
        each = left.pop()
        yield each
        for node in each.node:
            for attribute in node.attribute:
                left += [attribute.g] if attribute.HasField("g") else []
                left += attribute.graphs


def _said(node: onnx.NodeProto) -> Iterator[str]:
    """The inputs of a step that say how large something is."""
    for at in _SIZES.get(node.op_type, ()):
        if at < len(node.input):
            yield node.input[at]


def _is_length(name: str, constants: Collection[str], makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether it is made of lengths and constants alone."""
    left, seen = [name], set[str]()
    while left:
        each = left.pop()
        if not each or each in seen or each in constants:
            continue
        seen.add(each)
        maker = makers.get(each)
        if maker is None:
            return False
        if maker.op_type not in _LENGTHS:
            left += maker.input
            if maker.op_type in ("If", "Loop", "Scan"):
                return False
    return True
