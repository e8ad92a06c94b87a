"""A graph that finds things in images: files in, boxes in the images' own pixels out.

What its numbers mean is worked out in `engine.servables.box_reading`, which boxes stay in `engine.servables.boxes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ManifestError, NoLabelsError, TensorError
from engine.manifest import ObjectDetectionManifest
from engine.repository.folders import graph_file
from engine.scheduler.aside import aside
from engine.scheduler.pieces import in_turn
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.box_reading import BoxReading, Candidates, read_boxes
from engine.servables.boxes import Boxes, in_image, suppress
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.decoding import MAX_IMAGES, decode
from engine.servables.graph import MAX_ELEMENTS, Graph
from engine.servables.graph_backed import GraphBacked
from engine.servables.image_input import ImageInput, work_out
from engine.tensor import Tensor, TensorSpec
from mesh.sandbox import Decoded, ImagePool, Wanted

__all__ = ["Detected", "Detector", "Found", "Sought"]

_GROUP_BYTES = 16 << 20
"""Pixels of one request that are on their way through the graph together."""


_LEAST = 1e-12
"""What a score must be at least, whatever is asked for: rows that fill a graph's table up have zeros."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What a request asks for; None for what the manifest says.

    Attributes:
        min_score: what is less sure is left out.
        overlap: above which share of their union the less sure of two boxes goes.
        most: how many are found in an image at most.
    """

    min_score: float | None = None
    overlap: float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is in an image, the surest first.

    Attributes:
        width: of the image.
        height: of the same.
        boxes: in its pixels, float32 (n, 4).
        scores: float32 (n,).
        classes: int64 (n,), counted from 0.
    """

    width: int
    height: int
    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Detected:
    """What is in each image, and what the classes are called; a class without a name is called by its number."""

    images: Sequence[Found]
    names: Sequence[str]

    def name(self, number: int) -> str:
        """What a class is called."""
        return self.names[number] if 0 <= number < len(self.names) else str(number)


class Detector(GraphBacked[Graph]):
    """`image` BYTES [n], files, to `boxes` FP32 [n, k, 4], `scores` FP32 [n, k], `labels` INT64 [n, k], `count` [n].

    An image in which less than k things are found has zeros behind them, and labels of -1.

    Args:
        context: its files and how they are to serve.
        images: decodes.

    Raises:
        ManifestError: what it leaves out cannot be seen in the graph; the message has the line to add.
        EngineError: the file is no graph that can be run.
    """

    inputs = (TensorSpec("image", "BYTES", (-1,)),)
    outputs = (
        TensorSpec("boxes", "FP32", (-1, -1, 4)),
        TensorSpec("scores", "FP32", (-1, -1)),
        TensorSpec("labels", "INT64", (-1, -1)),
        TensorSpec("count", "INT64", (-1,)),
    )
    classifies: Items | None = None

    def __init__(
        self,
        context: ModelContext[ObjectDetectionManifest],
        images: ImagePool,
    ) -> None:
        self._manifest = manifest = context.manifest
        path, inferred = graph_file(context.folder, manifest.file)
        self._images = images
        self._graph = Graph(path, context)
        with closed_on_failure(self._graph):
            dressed = Wanted(width=0, height=0, mode="RGB", fit=manifest.fit, fill=manifest.fill)
            self._input, lines = work_out(manifest, self._graph.inputs, dressed)
            self._reading = read_boxes(manifest, _tried(self._graph, self._input))
            self._names = _names(manifest, self._graph, self._reading)
        self.inferred = (*inferred, *lines, *self._reading.inferred)
        wanted = self._input.wanted
        group = max(1, _GROUP_BYTES // (wanted.width * wanted.height * self._input.channels))
        alone = self._reading.each or bool(self._reading.classes)  # as many boxes as it finds: no two runs join
        self._group = 1 if alone else min(group, context.limits.max_rows)

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """What is in each image, filled up to the same number."""
        check_tensors(self.inputs, tensors)
        files = tensors["image"]
        if len(files) > MAX_IMAGES:
            raise TensorError("image", f"holds {len(files)} images; at most {MAX_IMAGES} are taken at once")
        found = (await self._detect(list(files), "image", Sought(), terms)).images
        count = np.array([len(each.scores) for each in found], np.int64)
        shape = (len(found), int(count.max(initial=0)))
        boxes, scores = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32)
        labels = np.full(shape, -1, np.int64)
        for row, each in enumerate(found):
            place = (row, slice(len(each.scores)))
            boxes[place], scores[place], labels[place] = each.boxes, each.scores, each.classes
        return Inference({"boxes": boxes, "scores": scores, "labels": labels, "count": count}, len(found))

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it finds things in images."""
        raise NoLabelsError("the model finds things in images and gives no labels to whole ones; ask Detect")

    async def detect(self, files: Sequence[bytes], sought: Sought, terms: Terms = PLAIN) -> Detected:
        """What is in each image.

        Args:
            files: PNG, JPEG or WebP.
            sought: what is asked for.
            terms: for whom, how urgent, and until when.

        Raises:
            ElementError: an image is wrong.
        """
        return await self._detect(files, "images", sought, terms)

    async def _detect(self, files: Sequence[bytes], field: str, sought: Sought, terms: Terms) -> Detected:
        """A group of images is decoded while the one before it is computed."""
        groups = range(0, len(files), self._group)

        async def work(start: int) -> list[Found]:
            part = files[start : start + self._group]
            decoded = await decode(self._images, part, self._input.wanted, field, terms, first=start)
            given = self._input.tensor([each.pixels for each in decoded])
            outputs = await self._graph.run_rows(given, terms)
            size = sum(output.size for output in outputs.values())
            return await aside(size // 16, self._found, outputs, decoded, sought)

        found = await in_turn(groups, work)
        return Detected([each for group in found for each in group], self._names)

    def _found(self, outputs: Tensors, decoded: Sequence[Decoded], sought: Sought) -> list[Found]:
        wanted = self._input.wanted
        size = (wanted.width, wanted.height)
        return [
            self._kept(self._reading.read(outputs, at, self._manifest, size), each, sought)
            for at, each in enumerate(decoded)
        ]

    def _kept(self, given: Candidates, image: Decoded, sought: Sought) -> Found:
        """What of an image's boxes stays."""
        manifest = self._manifest
        floor = manifest.min_score if sought.min_score is None else sought.min_score
        likely = np.flatnonzero(given.scores >= max(floor, _LEAST))
        if len(likely) > manifest.max_candidates:
            order = np.argsort(-given.scores[likely], kind="stable")
            likely = np.sort(likely[order[: manifest.max_candidates]])
        boxes = in_image(given.boxes[likely], self._input.wanted, image.width, image.height)
        large = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # others are outside of the image
        boxes, likely = boxes[large], likely[large]
        scores, classes = given.scores[likely], given.classes[likely]
        kept = suppress(
            boxes,
            scores,
            classes,
            overlap=manifest.overlap if sought.overlap is None else sought.overlap,
            across_classes=manifest.across_classes,
            most=min(manifest.max_detections, sought.most or manifest.max_detections),
        )
        return Found(image.width, image.height, boxes[kept], scores[kept], classes[kept])


def _tried(graph: Graph, given: ImageInput) -> dict[str, Tensor]:
    """What an image of noise comes to.

    Raises:
        ManifestError: as many at once as the graph wants would fill the memory.
        ModelFileError: it takes too long.
    """
    wanted, spec = given.wanted, graph.inputs[0]
    copies = spec.shape[0] if spec.shape and spec.shape[0] > 0 else 1
    count = wanted.width * wanted.height * given.channels
    if copies * count > MAX_ELEMENTS:
        raise ManifestError(
            f"size: {copies} images of {wanted.width} by {wanted.height} pixels at once are more than the "
            f"{MAX_ELEMENTS} values that are taken; export the graph with a free first axis"
        )
    noise = np.random.default_rng(7).integers(0, 256, count, np.uint8).tobytes()
    return graph.try_once({spec.name: given.tensor([noise] * copies)})


def _names(manifest: ObjectDetectionManifest, graph: Graph, reading: BoxReading) -> tuple[str, ...]:
    width = reading.width
    if manifest.labels and width and len(manifest.labels) != width:
        raise ManifestError(f"labels: {len(manifest.labels)} names, and the graph tells {width} classes apart")
    return manifest.labels or next((found for found in graph.classes if width and len(found) == width), ())
