"""A plain ONNX graph, tensors in and out; where its outputs are labels and probabilities, it gives labels too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.errors import ElementError, NoLabelsError
from engine.manifest import OnnxManifest
from engine.repository.folders import graph_file
from engine.scheduler.aside import aside
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.classes import ClassReading, read_classes
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.graph import Graph
from engine.servables.graph_backed import GraphBacked
from engine.tensor import DATATYPES, Tensor, TensorSpec

__all__ = ["OnnxModel"]


class OnnxModel(GraphBacked[Graph]):
    """A plain ONNX graph.

    Args:
        context: its files and how they are to serve.
    """

    def __init__(
        self,
        context: ModelContext[OnnxManifest],
    ) -> None:
        manifest = context.manifest
        path, inferred = graph_file(context.folder, manifest.file)
        self._graph = Graph(path, context, manifest.batching, manifest.padding)
        with closed_on_failure(self._graph):
            self._reading = read_classes(manifest, self._graph.outputs, self._graph.classes)
        self.classifies = _items_of(self._graph.inputs)
        if manifest.batching == "auto":
            inferred += (f"batching: {'on' if self._graph.batches else 'off'}",)
        if self._graph.unpadded:
            inferred += (f"padding: off, {self._graph.unpadded}",)
        self.inferred = inferred + (self._reading.inferred if isinstance(self._reading, ClassReading) else ())

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        return self._graph.outputs

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Every output."""
        tensors = self._graph.completed(tensors)
        check_tensors(self.inputs, tensors)
        first = next(iter(tensors.values()), None)
        rows = len(first) if first is not None and first.ndim else 1
        return Inference(await self._graph.run(tensors, terms), rows)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for texts or rows of numbers."""
        if not isinstance(self._reading, ClassReading):
            raise NoLabelsError(f"nobody has said where this model's labels are; {self._reading}")
        size = len(values) * len(values[0]) if self.classifies == "rows" else len(values)
        given = await aside(size, self._tensor, values)
        return self._reading.read(await self._graph.run_rows(given, terms))

    @property
    def columns_of(self) -> Mapping[str, Sequence[str]]:
        """The labels of an output's columns, by the output's name."""
        return self._reading.columns_of if isinstance(self._reading, ClassReading) else {}

    def _tensor(self, values: Sequence[Any]) -> Tensor:
        """Texts or rows as the only input takes them."""
        spec = self.inputs[0]
        if spec.datatype == "BYTES":
            texts = np.empty(len(values), object)
            texts[:] = [text.encode() for text in values]
            return texts.reshape(-1, 1) if len(spec.shape) == 2 else texts
        width = spec.shape[1] if spec.shape[1] > 0 else len(values[0])
        for at, row in enumerate(values):
            if len(row) != width:
                raise ElementError("rows", at, f"has {len(row)} numbers; the model takes {width}")
        numbers = np.array(values, np.float64)
        dtype = DATATYPES[spec.datatype]
        with np.errstate(over="ignore", invalid="ignore"):
            cast = numbers.astype(dtype)
            lost = ~(np.isfinite(cast) if dtype.kind == "f" else cast == numbers).all(axis=1)
        if lost.any():
            raise ElementError("rows", int(lost.argmax()), f"holds a number that {spec.datatype} cannot hold")
        return cast


def _items_of(inputs: Sequence[TensorSpec]) -> Items | None:
    """What the only input can be made of."""
    if len(inputs) != 1:
        return None
    spec = inputs[0]
    if spec.datatype == "BYTES":
        return "texts" if len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] in (1, -1)) else None
    return "rows" if len(spec.shape) == 2 and spec.datatype != "BOOL" else None
