"""How boxes and their classes are read from a graph's outputs: which hold them, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import ManifestError
from engine.manifest import ObjectDetectionManifest
from engine.servables.boxes import Boxes
from engine.servables.scores import probabilities
from engine.tensor import Tensor

__all__ = ["BoxReading", "Candidates", "read_boxes"]

_BOX = 4
_FRACTION = 2.0
"""No box given as a fraction reaches further than this."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of one image as the graph gives them.

    Attributes:
        boxes: in pixels of the graph's input, float32 (n, 4).
        scores: of each box's best class, float32 (n,).
        classes: the best class of each, int64 (n,).
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BoxReading:
    """Reads boxes from a graph's outputs.

    Attributes:
        table: the output with boxes and scores together; empty where they are apart.
        columns_first: whether a table is [n, columns, boxes] and not [n, boxes, columns].
        boxes: the output with the boxes.
        scores: the output with the scores.
        classes: the output with the numbers of the classes; empty where the scores have a column a class.
        each: whether the outputs are one image's, without an axis for several.
        width: how many classes there are, without the background; 0 where that cannot be seen.
        unit: `pixels` or `fraction`.
        box: what the four numbers are.
        inferred: what of it the manifest did not say, as lines of it.
    """

    table: str
    columns_first: bool
    boxes: str
    scores: str
    classes: str
    each: bool
    width: int
    unit: Literal["pixels", "fraction"]
    box: Literal["xyxy", "yxyx", "xywh", "cxcywh"]
    inferred: tuple[str, ...]

    def read(
        self, outputs: Mapping[str, Tensor], at: int, manifest: ObjectDetectionManifest, size: tuple[int, int]
    ) -> Candidates:
        """The boxes of one image, as many as the graph gives; what is no finite number is left out.

        Args:
            outputs: of a run.
            at: which image of it.
            manifest: says what the scores are.
            size: width and height of the graph's input.
        """
        classes: Tensor | None = None
        if self.table:
            table = outputs[self.table][at]
            rows = table.T if self.columns_first else table
            numbers, scores = rows[:, :_BOX], rows[:, _BOX:]
        else:
            numbers, scores = self._of(outputs, self.boxes, at), self._of(outputs, self.scores, at)
            classes = self._of(outputs, self.classes, at) if self.classes else None
        if classes is None:
            best, chosen = _best(scores, manifest)
        else:
            best, chosen = np.asarray(scores, np.float32), np.asarray(classes, np.int64)
            if manifest.background == "first":
                best, chosen = np.where(chosen > 0, best, 0), chosen - 1
        boxes = _corners(np.asarray(numbers, np.float32), self.box)
        if self.unit == "fraction":
            boxes = boxes * np.array([*size, *size], np.float32)
        sound = np.isfinite(boxes).all(axis=1) & np.isfinite(best)
        return Candidates(boxes[sound], best[sound], chosen[sound])

    def _of(self, outputs: Mapping[str, Tensor], name: str, at: int) -> Tensor:
        return outputs[name] if self.each else outputs[name][at]


def _best(scores: Tensor, manifest: ObjectDetectionManifest) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """How sure the best class of each box is, and which it is, from float (n, columns)."""
    if manifest.background != "none":
        table = probabilities(scores, manifest.scores)
        table = table[:, 1:] if manifest.background == "first" else table[:, :-1]
    else:
        table = probabilities(scores, manifest.scores, multi_label=True)
        if manifest.objectness:
            table = table[:, 1:] * table[:, :1]
    chosen = table.argmax(axis=1)
    return table[np.arange(len(table)), chosen], np.asarray(chosen, np.int64)


def _corners(numbers: Boxes, box: str) -> Boxes:
    """Left, top, right and bottom of boxes, float32 (n, 4), given in any way."""
    first, last = numbers[:, :2], numbers[:, 2:]
    match box:
        case "yxyx":
            return numbers[:, [1, 0, 3, 2]]
        case "xywh":
            return np.concatenate([first, first + last], axis=1)
        case "cxcywh":
            return np.concatenate([first - last / 2, first + last / 2], axis=1)
        case _:
            return numbers


def read_boxes(manifest: ObjectDetectionManifest, tried: Mapping[str, Tensor]) -> BoxReading:
    """How boxes are read.

    Args:
        manifest: may name the outputs and say what the numbers are.
        tried: what the graph gave for one image; those with a fixed first axis for as many.

    Raises:
        ManifestError: it cannot be seen, or is not so; the message has the line to add.
    """
    for key, name in _named(manifest):
        if name and name not in tried:
            raise ManifestError(f"{key}: the graph has no output `{name}`; it has {', '.join(tried)}")
    apart = bool(manifest.boxes_output or manifest.scores_output or manifest.classes_output)
    if not apart and (manifest.output or len(tried) == 1):
        return _read_table(manifest, manifest.output or next(iter(tried)), tried)
    return _read_apart(manifest, tried)


def _named(manifest: ObjectDetectionManifest) -> Sequence[tuple[str, str]]:
    return (
        ("output", manifest.output),
        ("boxes_output", manifest.boxes_output),
        ("scores_output", manifest.scores_output),
        ("classes_output", manifest.classes_output),
    )


def _read_table(manifest: ObjectDetectionManifest, name: str, tried: Mapping[str, Tensor]) -> BoxReading:
    """One table; the shorter of its axes has the columns: there are more boxes than classes."""
    shape = tried[name].shape
    more = _BOX + manifest.objectness
    columns_first = len(shape) == 3 and shape[1] < shape[2]
    columns = min(shape[1:]) if len(shape) == 3 else 0
    wanted = more + len(manifest.labels) if manifest.labels else 0
    if wanted and len(shape) == 3 and wanted in shape[1:]:
        columns, columns_first = wanted, shape[1] == wanted
    if columns <= more:
        raise ManifestError(
            f"the output `{name}` has the shape {list(shape)}, where [n, {more} + classes, boxes] or "
            f"[n, boxes, {more} + classes] is needed; name it with `output:`, or two of them with `boxes_output:` and "
            "`scores_output:`"
        )
    rows = tried[name][0].T if columns_first else tried[name][0]
    box = manifest.box or "cxcywh"
    unit, lines = _unit(manifest, rows[:, :_BOX])
    inferred = [*([] if manifest.output else [f"output: {name}"]), *([] if manifest.box else [f"box: {box}"]), *lines]
    return BoxReading(name, columns_first, "", "", "", False, columns - more, unit, box, tuple(inferred))


def _read_apart(manifest: ObjectDetectionManifest, tried: Mapping[str, Tensor]) -> BoxReading:
    """Boxes, scores and perhaps classes in outputs of their own."""
    boxes = manifest.boxes_output or _only([name for name, value in tried.items() if value.shape[-1:] == (_BOX,)])
    if not boxes or tried[boxes].ndim not in (2, 3) or tried[boxes].shape[-1] != _BOX:
        raise _unseen("boxes_output", tried)
    rank = tried[boxes].ndim
    classes = manifest.classes_output or _only(
        [name for name, value in tried.items() if value.dtype.kind in "iu" and value.ndim == rank - 1]
    )
    scores_rank = rank - 1 if classes else rank
    others = {name: value for name, value in tried.items() if name not in (boxes, classes)}
    scores = manifest.scores_output or _only(
        [name for name, value in others.items() if value.dtype.kind == "f" and value.ndim == scores_rank]
    )
    if not scores or tried[scores].ndim != scores_rank:
        raise _unseen("scores_output", tried)
    if manifest.box is None:
        raise ManifestError(
            f"it cannot be seen what the four numbers in `{boxes}` are; add this line to model.yaml: `box: xyxy` "
            "(or yxyx, xywh, cxcywh)"
        )
    width = 0 if classes else tried[scores].shape[-1] - (manifest.background != "none")
    unit, lines = _unit(manifest, tried[boxes].reshape(-1, _BOX))
    found = zip(("boxes_output", "scores_output", "classes_output"), (boxes, scores, classes), strict=True)
    said = dict(_named(manifest))
    inferred = [f"{key}: {name}" for key, name in found if name and not said[key]]
    return BoxReading("", False, boxes, scores, classes, rank == 2, width, unit, manifest.box, (*inferred, *lines))


def _unit(manifest: ObjectDetectionManifest, numbers: Tensor) -> tuple[Literal["pixels", "fraction"], list[str]]:
    if manifest.unit is not None:
        return manifest.unit, []
    finite = numbers[np.isfinite(numbers)]
    if not finite.size or not finite.any():
        raise ManifestError(
            "it cannot be seen whether boxes are pixels or fractions: the graph found none in a first image; add this "
            "line to model.yaml: `unit: pixels` (or `unit: fraction`)"
        )
    unit: Literal["pixels", "fraction"] = "fraction" if np.abs(finite).max() <= _FRACTION else "pixels"
    return unit, [f"unit: {unit}"]


def _only(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ""


def _unseen(key: str, tried: Mapping[str, Tensor]) -> ManifestError:
    known = ", ".join(f"`{name}` {list(value.shape)}" for name, value in tried.items())
    return ManifestError(
        f"it cannot be seen which output holds what: the graph gives {known}; add this line to model.yaml: "
        f"`{key}: {next(iter(tried))}`"
    )
