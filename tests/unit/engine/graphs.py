"""Small ONNX graphs and folders of models, as a data scientist brings them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.manifest import parse_manifest
from engine.runtime.sessions import SessionSettings
from engine.scheduler.policy import BatchPolicy
from engine.servables import ModelContext, OnnxModel


class Silent:
    """Hears about batches and says nothing."""

    def queue(self, *_figures) -> None:
        return

    def batch(self, *_figures) -> None:
        return

    def answered(self, *_figures) -> None:
        return


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[int | str]]],
    outputs: dict[str, tuple[int, Sequence[int | str]]],
    weights: dict[str, np.ndarray] | None = None,
) -> bytes:
    """A graph; inputs and outputs by name, with their type and shape."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return made.SerializeToString()


def doubling(shape: Sequence[int | str]) -> bytes:
    """y = x + x."""
    x = {"x": (TensorProto.FLOAT, shape)}
    return model([helper.make_node("Add", ["x", "x"], ["y"])], x, {"y": (TensorProto.FLOAT, shape)})


def heavy(megabytes: float) -> bytes:
    """y = x + what its weights make of it, of so many megabytes, none of which is like another."""
    weights = np.random.default_rng(5).random((2, int(megabytes * 1024 * 128)), np.float32)
    x = {"x": (TensorProto.FLOAT, ["n", 2])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wide"]),
        helper.make_node("ReduceMean", ["wide", "axes"], ["one"], keepdims=1),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    return model(nodes, x, {"y": x["x"]}, {"w": weights, "axes": np.array([1])})


def endless(shape: Sequence[int | str], outcome: Sequence[int | str] | None = None) -> bytes:
    """A loop of 2^62 steps, of a few hundred bytes; `outcome` is the output's shape where it is another one."""
    x, y = (TensorProto.FLOAT, shape), (TensorProto.FLOAT, outcome or shape)
    flag, step = (TensorProto.BOOL, []), (TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["goes_on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info(name, *of) for name, of in (("step", step), ("on", flag), ("v", x))],
        [helper.make_tensor_value_info(name, *of) for name, of in (("goes_on", flag), ("w", x))],
    )
    nodes = [helper.make_node("Loop", ["steps", "always", "x"], ["z" if outcome else "y"], body=body)]
    if outcome:
        nodes.append(helper.make_node("Flatten", ["z"], ["y"]))
    weights = {"steps": np.array(2**62, np.int64), "always": np.array(True)}
    return model(nodes, {"x": x}, {"y": y}, weights)


def aligning() -> bytes:
    """Boxes of an image of four by four, each as one value; one of 10^18 by 10^18 ends the process (RoiAlign, 1.32)."""
    nodes = [
        helper.make_node("RoiAlign", ["image", "x", "first"], ["z"], output_height=1, output_width=1),
        helper.make_node("Flatten", ["z"], ["y"]),
    ]
    weights = {"image": np.ones((1, 1, 4, 4), np.float32), "first": np.array([0], np.int64)}
    return model(nodes, {"x": (TensorProto.FLOAT, [1, 4])}, {"y": (TensorProto.FLOAT, [1, 1])}, weights)


def ranging() -> bytes:
    """y = the sum of the numbers below x."""
    nodes = [
        helper.make_node("Range", ["none", "x", "one"], ["all"]),
        helper.make_node("ReduceSum", ["all"], ["y"], keepdims=0),
    ]
    weights = {"none": np.array(0, np.float32), "one": np.array(1, np.float32)}
    return model(nodes, {"x": (TensorProto.FLOAT, [])}, {"y": (TensorProto.FLOAT, [])}, weights)


def mean_of_channels(shape: Sequence[int | str], axes: Sequence[int], *, softmax: bool, kind: int = TensorProto.FLOAT):
    """An image classifier whose classes are its channels: the brightest is the answer."""
    last = "logits" if softmax else "y"
    nodes = [helper.make_node("ReduceMean", ["x" if kind == TensorProto.FLOAT else "f", "axes"], [last], keepdims=0)]
    if kind != TensorProto.FLOAT:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["y"], axis=1))
    outputs = {"y": (TensorProto.FLOAT, [shape[0], 3])}
    return model(nodes, {"x": (kind, shape)}, outputs, {"axes": np.array(axes, np.int64)})


def folder(where: Path, manifest: str, **files: bytes) -> Path:
    """A folder as `models push` takes it: files by their name without `.onnx`."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "model.yaml").write_text(manifest)
    for name, content in files.items():
        (where / f"{name}.onnx").write_bytes(content)
    return where


def opened(where: Path, manifest: str, settings: SessionSettings | None = None, /, **files: bytes) -> OnnxModel:
    """A model of the kind `onnx` in memory; the manifest's name must be `m`."""
    made = folder(where, manifest, **files)
    parsed = parse_manifest(manifest.encode(), model="m")
    return OnnxModel(context_of(made, parsed, settings=settings))


def context_of(
    where: Path,
    manifest: Any,
    limits: BatchPolicy | None = None,
    observer: Any = None,
    settings: SessionSettings | None = None,
) -> ModelContext[Any]:
    """What a servable is made of; what is not given does not matter to the test."""
    return ModelContext(
        where, manifest, settings or SessionSettings(), limits or BatchPolicy(8, 64), observer or Silent()
    )
