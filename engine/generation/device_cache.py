"""Caches on a device, joined there: rows are picked, cut and padded by two small graphs, and never come into memory.

The graphs are built here and run by the runtime that runs the model. Caches in memory are `engine.generation.cache`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.generation.cache import Cache, Part
from engine.generation.form import DecoderForm
from engine.runtime.kept import Kept
from engine.runtime.sessions import Session, SessionSettings, open_built
from engine.tensor import Tensor

__all__ = ["DeviceCaches"]

_OPSET, _IR_VERSION = 17, 8
"""Old enough for every provider to have the operators."""


class DeviceCaches:
    """Joins caches of one model on its device.

    Args:
        form: of the model.
        settings: how its session is opened.

    Raises:
        EngineError: the device cannot be used.
    """

    def __init__(self, form: DecoderForm, settings: SessionSettings) -> None:
        alone = replace(settings, intra_op_threads=1, budget=None, track=None)
        self._names = [f"out.{at}" for at in range(len(form.cache))]
        self._keep = frozenset(self._names)
        self._pick = open_built(_pick_graph(form), "pick", alone)
        self._stack = open_built(_stack_graph(form), "stack", alone)

    def joined(self, parts: Sequence[Part]) -> Cache:
        """As `engine.generation.cache.joined`."""
        if len(parts) == 1 and parts[0].is_all:
            return parts[0].cache
        lengths = np.concatenate([part.lengths for part in parts])
        longest = int(lengths.max())
        whole, *others = (self._picked(part, longest) for part in parts)
        for other in others:
            feeds = {f"first.{at}": value for at, value in enumerate(whole)}
            feeds |= {f"second.{at}": value for at, value in enumerate(other)}
            whole = self._run(self._stack, feeds)
        return Cache(whole, lengths)

    def close(self) -> None:
        """Give the graphs' memory back."""
        self._pick.close()
        self._stack.close()

    def _picked(self, part: Part, longest: int) -> Sequence[Kept]:
        padding, begin, end = part.columns(longest)
        feeds: dict[str, Tensor | Kept] = {f"in.{at}": value for at, value in enumerate(part.cache.tensors)}
        feeds["rows"] = np.array(part.rows, np.int64)
        feeds["begin"], feeds["end"] = np.array([begin], np.int64), np.array([end], np.int64)
        feeds["padding"] = np.array([0, 0, padding, 0, 0, 0, 0, 0], np.int64)
        return self._run(self._pick, feeds)

    def _run(self, session: Session, feeds: Mapping[str, Tensor | Kept]) -> Sequence[Kept]:
        found = session.run_keeping(feeds, self._names, self._keep)
        return [found[name] for name in self._names]


def _pick_graph(form: DecoderForm) -> bytes:
    """Of each `in.N`: `rows`, of those the columns from `begin` to `end`, with `padding` as the operator Pad has it."""
    nodes = []
    for at in range(len(form.cache)):
        nodes += [
            helper.make_node("Gather", [f"in.{at}", "rows"], [f"rows.{at}"], axis=0),
            helper.make_node("Slice", [f"rows.{at}", "begin", "end", "axis"], [f"cut.{at}"]),
            helper.make_node("Pad", [f"cut.{at}", "padding"], [f"out.{at}"]),
        ]
    numbers = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [length])
        for name, length in (("rows", None), ("begin", 1), ("end", 1), ("padding", 8))
    ]
    return _graph(form, nodes, ["in"], numbers)


def _stack_graph(form: DecoderForm) -> bytes:
    """Of each `first.N` and `second.N` the rows of one behind the rows of the other."""
    nodes = [
        helper.make_node("Concat", [f"first.{at}", f"second.{at}"], [f"out.{at}"], axis=0)
        for at in range(len(form.cache))
    ]
    return _graph(form, nodes, ["first", "second"], [])


def _graph(
    form: DecoderForm, nodes: Sequence[onnx.NodeProto], takes: Sequence[str], numbers: Sequence[onnx.ValueInfoProto]
) -> bytes:
    kind = helper.np_dtype_to_tensor_dtype(form.dtype)

    def values(name: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(f"{name}.{at}", kind, [None, each.heads, None, each.width])
            for at, each in enumerate(form.cache)
        ]

    inputs = [value for name in takes for value in values(name)]
    axis = [numpy_helper.from_array(np.array([2], np.int64), "axis")]
    graph = helper.make_graph(nodes, "caches", [*inputs, *numbers], values("out"), axis)
    opset = [helper.make_opsetid("", _OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION).SerializeToString())
