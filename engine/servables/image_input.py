"""How an ONNX graph wants its pixels: what its input says by itself, and what the manifest must say.

Decoding files to pixels is `mesh.sandbox`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from engine.errors import ManifestError
from engine.manifest import PixelManifest
from engine.tensor import DATATYPES, Tensor, TensorSpec
from mesh.sandbox import MAX_OUTPUT_BYTES, Wanted

__all__ = ["ImageInput", "work_out"]

Layout: TypeAlias = Literal["channels-first", "channels-last", "grey", "flat"]

_TAKEN = ("FP32", "FP16", "FP64", "UINT8")


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Makes a graph's input of pixels.

    Attributes:
        wanted: what decoding shall give.
        layout: the order of axes: [n, c, h, w], [n, h, w, c], [n, h, w] or [n, h * w * c].
        dtype: of the input.
        factor: what a byte is multiplied with, float32, one or a channel.
        offset: what is added then, float32, one or a channel.
    """

    wanted: Wanted
    layout: Layout
    dtype: np.dtype[Any]
    factor: NDArray[np.float32]
    offset: NDArray[np.float32]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colours."""
        return 1 if self.wanted.mode == "L" else 3

    def tensor(self, pixels: Sequence[bytes]) -> Tensor:
        """One batch."""
        shape = (len(pixels), self.wanted.height, self.wanted.width, self.channels)
        bytes_: NDArray[np.uint8] = np.frombuffer(b"".join(pixels), np.uint8).reshape(shape)
        values: Tensor = bytes_
        if self.dtype.kind == "f":
            values = (bytes_.astype(np.float32) * self.factor + self.offset).astype(self.dtype)
        match self.layout:
            case "channels-first":
                return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
            case "grey":
                return values[:, :, :, 0]
            case "flat":
                return values.reshape(len(pixels), -1)
            case _:
                return values


def work_out(manifest: PixelManifest, inputs: Sequence[TensorSpec], dressed: Wanted) -> tuple[ImageInput, list[str]]:
    """How a graph wants its pixels, and the lines of the manifest that were read from the graph.

    Args:
        manifest: what the owner says of it.
        inputs: of the graph.
        dressed: what is wanted of an image besides its size and channels.

    Raises:
        ManifestError: the graph takes no image, says another thing than the manifest, or does not say enough; then the
            message has the line to add.
    """
    if len(inputs) != 1 or inputs[0].datatype not in _TAKEN:
        known = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in inputs)
        raise ManifestError(
            f"kind: {manifest.__struct_config__.tag} takes a graph with one input of {', '.join(_TAKEN)}, and this one "
            f"takes {known}; export it so, or write `kind: onnx`"
        )
    spec = inputs[0]
    layout = _layout(manifest, spec)
    height, width, channels = _measures(manifest, spec, layout)
    if height * width * channels > MAX_OUTPUT_BYTES:
        raise ManifestError(f"size: [{height}, {width}] is too large; at most {MAX_OUTPUT_BYTES} bytes are made")
    low, high = _scale(manifest, spec)
    mean, std = _per_channel(manifest, "mean", channels, 0.0), _per_channel(manifest, "std", channels, 1.0)
    inferred = [] if manifest.size else [f"size: [{height}, {width}]"]
    if manifest.channels is None:
        inferred.append(f"channels: {'grey' if channels == 1 else 'rgb'}")
    if manifest.layout is None:
        inferred.append(f"layout: {layout}")
    wanted = replace(dressed, width=width, height=height, mode="L" if channels == 1 else "RGB")
    factor = np.asarray((high - low) / 255 / std, np.float32)
    return ImageInput(wanted, layout, DATATYPES[spec.datatype], factor, np.asarray((low - mean) / std, np.float32)), (
        inferred
    )


def _layout(manifest: PixelManifest, spec: TensorSpec) -> Layout:
    """The order of axes, from the manifest or the input's shape."""
    rank = len(spec.shape)
    by_rank: Mapping[int, Sequence[Layout]] = {4: ("channels-first", "channels-last"), 3: ("grey",), 2: ("flat",)}
    possible = by_rank.get(rank, ())
    if not possible:
        raise ManifestError(f"the graph's input has the shape {list(spec.shape)}, which is none of a batch of images")
    if manifest.layout is not None:
        if manifest.layout not in possible:
            raise ManifestError(
                f"layout: {manifest.layout} does not fit the graph's input of shape {list(spec.shape)}; "
                f"write `layout: {possible[0]}`"
            )
        return manifest.layout
    if rank != 4:
        return possible[0]
    first, last = spec.shape[1] in (1, 3), spec.shape[3] in (1, 3)
    if first == last:
        raise ManifestError(
            f"it cannot be seen from the shape {list(spec.shape)} where the channels are; add this line to model.yaml: "
            "`layout: channels-first` (or `layout: channels-last`)"
        )
    return "channels-first" if first else "channels-last"


def _measures(manifest: PixelManifest, spec: TensorSpec, layout: Layout) -> tuple[int, int, int]:
    """Height, width and channels."""
    said_height, said_width = manifest.size or (-1, -1)
    said_channels = {None: -1, "grey": 1, "rgb": 3}[manifest.channels]
    if layout == "flat":
        return _flat_measures(spec.shape[1], said_height, said_width, said_channels)
    height, width, channels = {
        "channels-first": (spec.shape[-2], spec.shape[-1], spec.shape[1]),
        "channels-last": (spec.shape[1], spec.shape[2], spec.shape[-1]),
        "grey": (spec.shape[1], spec.shape[2], 1),
    }[layout]
    for key, said, seen in (
        ("size", said_height, height), ("size", said_width, width), ("channels", said_channels, channels),
    ):  # fmt: skip
        if said > 0 and seen > 0 and said != seen:
            raise ManifestError(f"{key}: the graph's input has the shape {list(spec.shape)}, which says otherwise")
    height, width, channels = max(height, said_height), max(width, said_width), max(channels, said_channels)
    if height < 1 or width < 1:
        raise _missing("size", "size: [224, 224]", spec)
    if channels < 1:
        raise _missing("channels", "channels: rgb", spec)
    return height, width, channels


def _flat_measures(length: int, height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Height, width and channels of an image whose pixels stand in one row."""
    if height < 1 and length > 0 and channels in (-1, 1) and math.isqrt(length) ** 2 == length:
        return math.isqrt(length), math.isqrt(length), 1
    if height < 1:
        raise ManifestError(
            f"the size cannot be seen from {length if length > 0 else 'any number of'} pixels in a row, which the "
            "graph takes; add this line to model.yaml, height before width: `size: [28, 28]`"
        )
    found = channels if channels > 0 else max(1, length // (height * width))
    if (length > 0 and found * height * width != length) or found not in (1, 3):
        raise ManifestError(f"size: [{height}, {width}] does not fit the {length} pixels that the graph takes in a row")
    return height, width, found


def _scale(manifest: PixelManifest, spec: TensorSpec) -> tuple[float, float]:
    """What black and white become."""
    if spec.datatype == "UINT8":
        if manifest.scale not in (None, (0, 255)) or manifest.mean or manifest.std:
            raise ManifestError("scale: the graph takes bytes as they are; leave out `scale`, `mean` and `std`")
        return 0.0, 255.0
    if manifest.scale is None:
        raise ManifestError(
            "what black and white are for the graph cannot be seen in its file; add this line to model.yaml: "
            "`scale: [0, 1]` (or `[0, 255]`, `[-1, 1]`)"
        )
    return manifest.scale


def _per_channel(
    manifest: PixelManifest, key: Literal["mean", "std"], channels: int, otherwise: float
) -> NDArray[np.float32]:
    said = manifest.mean if key == "mean" else manifest.std
    if not said:
        return np.full(1, otherwise, np.float32)
    if len(said) not in (1, channels):
        raise ManifestError(f"{key}: {len(said)} numbers for {channels} channels; write one, or one for each")
    if key == "std" and min(said) <= 0:
        raise ManifestError("std: must be above 0")
    return np.array(said, np.float32)


def _missing(key: str, line: str, spec: TensorSpec) -> ManifestError:
    return ManifestError(
        f"`{key}` cannot be seen from the input's shape {list(spec.shape)}; add this line to model.yaml: `{line}`"
    )
