"""Manifests of models that look at images."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from engine.manifest.fields import FileName, Labels, Length
from engine.manifest.scheduling import GraphManifest

__all__ = ["ImageClassificationManifest"]


class ImageClassificationManifest(GraphManifest, frozen=True, tag="image-classification"):
    """A graph that takes an image: `image` BYTES [n] in, `label` INT64 [n] and `probabilities` FP32 [n, classes] out.

    What is left out is read from the graph; what cannot be seen there is asked for when the model is pushed.

    Attributes:
        file: the ONNX file; without it the only one there is.
        size: height and width of the pixels that the graph takes.
        channels: `grey` or `rgb`.
        layout: the order of the input's axes.
        scale: what black and white are for the graph, `[0, 1]`.
        mean: taken from the scaled values, one number or one a channel.
        std: what they are divided by then.
        invert: whether dark and bright change places; `auto` where the ground is brighter than what is on it.
        contrast: whether the ground becomes black and the brightest becomes white.
        trim: whether the ground around what is drawn is cut off.
        fit: how an image of another shape is met: `stretch`, `crop` at the sides, or `pad` with black.
        output: the output with a column a class.
        scores: whether its numbers are probabilities, or logits that a softmax makes probabilities of.
        labels: what the columns are called; without it their numbers, or the classes that are written in the file.
    """

    file: FileName | None = None
    size: tuple[Length, Length] | None = None
    channels: Literal["grey", "rgb"] | None = None
    layout: Literal["channels-first", "channels-last", "grey", "flat"] | None = None
    scale: tuple[float, float] | None = None
    mean: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()
    std: Annotated[tuple[float, ...], msgspec.Meta(max_length=3)] = ()
    invert: Literal["never", "always", "auto"] = "never"
    contrast: bool = False
    trim: bool = False
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    output: str = ""
    scores: Literal["probabilities", "logits"] | None = None
    labels: Labels = ()
