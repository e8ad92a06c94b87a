"""An image classifier: image files in, decoded in processes of their own, then an ONNX graph.

How a graph wants its pixels is worked out in `engine.servables.image_input`; decoding happens in `mesh.sandbox`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ManifestError, TensorError
from engine.manifest import ImageClassificationManifest
from engine.repository.folders import graph_file
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.decoding import MAX_IMAGES, decode
from engine.servables.graph import MAX_ELEMENTS, Graph
from engine.servables.graph_backed import GraphBacked
from engine.servables.image_input import ImageInput, work_out
from engine.servables.scores import Scores, kind_of_scores, probabilities
from engine.tensor import Tensor, TensorSpec
from mesh.sandbox import ImagePool, Wanted

__all__ = ["ImageClassifier", "dressed"]


class ImageClassifier(GraphBacked[Graph]):
    """`image` BYTES [n], files, to `label` INT64 [n], counted from 0, and `probabilities` FP32 [n, classes].

    Args:
        context: its files and how they are to serve.
        images: decodes.

    Raises:
        ManifestError: what it leaves out cannot be seen in the graph; the message has the line to add.
        EngineError: the file is no graph that can be run.
    """

    inputs = (TensorSpec("image", "BYTES", (-1,)),)
    classifies: Items = "images"

    def __init__(
        self,
        context: ModelContext[ImageClassificationManifest],
        images: ImagePool,
    ) -> None:
        manifest = context.manifest
        path, inferred = graph_file(context.folder, manifest.file)
        self._images = images
        self._graph = Graph(path, context)
        with closed_on_failure(self._graph):
            self._input, lines = work_out(manifest, self._graph.inputs, dressed(manifest))
            self._output, self._scores, self._names, more = _work_out_scores(manifest, self._graph, self._input)
        self.inferred = (*inferred, *lines, *more)
        self.outputs = (
            TensorSpec("label", "INT64", (-1,)),
            TensorSpec("probabilities", "FP32", (-1, len(self._names))),
        )

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The most probable classes, and the probabilities of all."""
        check_tensors(self.inputs, tensors)
        files = tensors["image"]
        if len(files) > MAX_IMAGES:
            raise TensorError("image", f"holds {len(files)} images; at most {MAX_IMAGES} are taken at once")
        table = await self._probabilities(list(files), "image", terms)
        return Inference({"label": table.argmax(axis=1).astype(np.int64), "probabilities": table}, len(table))

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for image files."""
        table = await self._probabilities(values, "images", terms)
        best = table.argmax(axis=1)
        scores = table[np.arange(len(table)), best]
        return Classified([self._names[at] for at in best], scores, self._names, table)

    @property
    def columns_of(self) -> Mapping[str, Sequence[str]]:
        """The labels of an output's columns, by the output's name."""
        return {"probabilities": self._names}

    async def _probabilities(self, files: Sequence[bytes], field: str, terms: Terms) -> NDArray[np.float32]:
        """The probabilities of each image's classes, float32 (n, classes)."""
        if not files:
            return np.zeros((0, len(self._names)), np.float32)
        decoded = await decode(self._images, files, self._input.wanted, field, terms)
        outputs = await self._graph.run_rows(self._input.tensor([each.pixels for each in decoded]), terms)
        return probabilities(outputs[self._output], self._scores)


def dressed(manifest: ImageClassificationManifest) -> Wanted:
    """What is wanted of an image besides its size and channels, which are worked out."""
    return Wanted(
        width=0,
        height=0,
        mode="RGB",
        invert=manifest.invert,
        contrast=manifest.contrast,
        trim=manifest.trim,
        fit=manifest.fit,
    )


def _tried(graph: Graph, given: ImageInput, output: str) -> Tensor:
    """What a bright image and a noisy one come to, a row each or as many as the graph's fixed first axis wants.

    Raises:
        ManifestError: so many at once would fill the memory.
        ModelFileError: it takes too long.
    """
    random = np.random.default_rng(7)
    bright, noisy = (
        random.integers(low, 256, given.wanted.width * given.wanted.height * given.channels, np.uint8).tobytes()
        for low in (200, 0)
    )
    spec = graph.inputs[0]
    copies = spec.shape[0] if spec.shape and spec.shape[0] > 0 else 1
    if copies * len(noisy) > MAX_ELEMENTS:
        raise ManifestError(
            f"size: {copies} images of {given.wanted.width} by {given.wanted.height} pixels at once are more than the "
            f"{MAX_ELEMENTS} values that are taken; export the graph with a free first axis"
        )
    rows = [np.asarray(graph.try_once({spec.name: given.tensor([one] * copies)})[output]) for one in (bright, noisy)]
    return np.concatenate(rows)


def _work_out_scores(
    manifest: ImageClassificationManifest, graph: Graph, given: ImageInput
) -> tuple[str, Scores, tuple[str, ...], list[str]]:
    """Which output is read, what its numbers are, what its columns are called, and what of it was inferred.

    Raises:
        ManifestError: it cannot be seen; the message has the line to add.
    """
    tables = [spec.name for spec in graph.outputs if len(spec.shape) == 2 and spec.datatype.startswith("FP")]
    output = manifest.output or (tables[0] if len(tables) == 1 else "")
    if output not in tables:
        known = ", ".join(spec.name for spec in graph.outputs)
        wanted = f"output: {tables[0]}" if tables else "output: NAME"
        raise ManifestError(
            f"an output with a row an image and a column a class is needed, and the graph gives {known}; "
            f"add this line to model.yaml, with the one that holds the classes: `{wanted}`"
        )
    tried = _tried(graph, given, output)
    inferred = [] if manifest.output else [f"output: {output}"]
    scores = manifest.scores
    if scores is None:
        scores = kind_of_scores(tried, output)
        inferred.append(f"scores: {scores}")
    width = tried.shape[1]
    names = manifest.labels or next((found for found in graph.classes if len(found) == width), ())
    if manifest.labels and len(manifest.labels) != width:
        raise ManifestError(f"labels: {len(manifest.labels)} names, but `{output}` has {width} columns")
    return output, scores, names or tuple(str(at) for at in range(width)), inferred
