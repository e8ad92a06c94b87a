"""Manifests of models that look at images."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.errors import ManifestError
from engine.manifest.fields import FileName, Labels, Length
from engine.manifest.scheduling import GraphManifest

__all__ = ["ImageClassificationManifest", "ObjectDetectionManifest", "PixelManifest"]


class PixelManifest(GraphManifest, frozen=True):
    """How a graph wants its pixels.

    What is left out is read from the graph; what cannot be seen there is asked for when the model is pushed.

    Attributes:
        file: the ONNX file; without it the only one there is.
        size: height and width of the pixels that the graph takes.
        channels: `grey` or `rgb`.
        layout: the order of the input's axes.
        scale: what black and white are for the graph, `[0, 1]`.
        mean: taken from the scaled values, one number or one a channel.
        std: what they are divided by then.
    """

    file: FileName | None = None
    size: tuple[Length, Length] | None = None
    channels: Literal["grey", "rgb"] | None = None
    layout: Literal["channels-first", "channels-last", "grey", "flat"] | None = None
    scale: tuple[float, float] | None = None
    mean: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()
    std: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()


class ImageClassificationManifest(PixelManifest, frozen=True, tag="image-classification"):
    """A graph that takes an image: `image` BYTES [n] in, `label` INT64 [n] and `probabilities` FP32 [n, classes] out.

    Attributes:
        invert: whether dark and bright change places; `auto` where the ground is brighter than what is on it.
        contrast: whether the ground becomes black and the brightest becomes white.
        trim: whether the ground around what is drawn is cut off.
        fit: how an image of another shape is met: `stretch`, `crop` at the sides, or `pad` with black.
        output: the output with a column a class.
        scores: whether its numbers are probabilities, or logits that a softmax makes probabilities of.
        labels: what the columns are called; without it their numbers, or the classes that are written in the file.
    """

    invert: Literal["never", "always", "auto"] = "never"
    contrast: bool = False
    trim: bool = False
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    output: str = ""
    scores: Literal["probabilities", "logits"] | None = None
    labels: Labels = ()


_Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ObjectDetectionManifest(PixelManifest, frozen=True, tag="object-detection"):
    """A graph that finds things in an image: `image` BYTES [n] in; `boxes`, `scores`, `labels` and `count` out.

    It gives one table of boxes and scores, as YOLO does, or each in an output of its own, as SSD and DETR do.

    Attributes:
        fit: how an image of another shape is met: `pad`, its own shape kept (a letterbox), or `stretch`.
        fill: how bright the sides are that are filled up.
        output: the only table: [n, 4 + classes, boxes] or [n, boxes, 4 + classes].
        objectness: whether a column behind the box says how likely there is anything at all.
        boxes_output: the output with the boxes, [n, boxes, 4], or [boxes, 4] for one image.
        scores_output: the output with the scores, [n, boxes, classes]; or [n, boxes] beside `classes_output`.
        classes_output: the output with the numbers of the classes, [n, boxes].
        box: what the four numbers are: corners (`xyxy`, `yxyx`), corner and size (`xywh`), middle and size (`cxcywh`).
        unit: `pixels` of the graph's input, or `fraction` of it.
        scores: whether its numbers are probabilities, or logits.
        background: whether the `first` or the `last` class means that there is nothing.
        labels: what the classes are called, without the background; without it as the file says, else their numbers.
        min_score: what is less sure is left out.
        overlap: of two boxes that share more of their union than this, the less sure is left out; 1 keeps all.
        across_classes: whether that also holds for boxes of different classes.
        max_candidates: the surest boxes of an image that are compared.
        max_detections: the most that are found in an image.
    """

    fit: Literal["pad", "stretch"] = "pad"
    fill: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    output: str = ""
    objectness: bool = False
    boxes_output: str = ""
    scores_output: str = ""
    classes_output: str = ""
    box: Literal["xyxy", "yxyx", "xywh", "cxcywh"] | None = None
    unit: Literal["pixels", "fraction"] | None = None
    scores: Literal["probabilities", "logits"] = "probabilities"
    background: Literal["none", "first", "last"] = "none"
    labels: Labels = ()
    min_score: _Share = 0.25
    overlap: _Share = 0.45
    across_classes: bool = False
    max_candidates: Annotated[int, msgspec.Meta(ge=1, le=16384)] = 2048
    max_detections: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 100

    def check(self) -> None:
        """One way to say where the boxes are.

        Raises:
            ManifestError: two are said.
        """
        if self.output and (self.boxes_output or self.scores_output or self.classes_output):
            raise ManifestError("output: is for one table with boxes and scores; leave it out, or the other outputs")
        if self.objectness and (self.boxes_output or self.background != "none"):
            raise ManifestError("objectness: is a column of one table, which has no boxes_output and no background")
