"""Graphs that find coloured squares in images of 64 by 64 pixels, in every form in which detectors answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper
from PIL import Image, ImageDraw

from tests.unit.engine.graphs import model

SIDE, CELL, STEP = 64, 8, 4
ACROSS = (SIDE - CELL) // STEP + 1
ANCHORS = ACROSS * ACROSS
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
_INPUT = {"pixels": (TensorProto.FLOAT, ["n", 3, SIDE, SIDE])}


def corners() -> np.ndarray:
    """Where the anchors are, in pixels, float32 (anchors, 4)."""
    places = np.arange(ACROSS) * STEP
    top, left = (each.ravel() for each in np.meshgrid(places, places, indexing="ij"))
    return np.stack([left, top, left + CELL, top + CELL], axis=1).astype(np.float32)


def _scores() -> list:
    """[n, 3, anchors]: how much redder than green and blue an anchor is, and so on."""
    return [
        helper.make_node("AveragePool", ["pixels"], ["means"], kernel_shape=[CELL, CELL], strides=[STEP, STEP]),
        helper.make_node("Conv", ["means", "contrast"], ["contrasts"]),
        helper.make_node("Relu", ["contrasts"], ["positive"]),
        helper.make_node("Reshape", ["positive", "flat"], ["scores"]),
    ]


_WEIGHTS = {
    "contrast": (2 * np.eye(3) - 1).astype(np.float32)[:, :, None, None],
    "flat": np.array([0, 3, ANCHORS], np.int64),
}


def one_table(*, columns_first: bool = True, objectness: bool = False) -> bytes:
    """As YOLO: middle and size of each anchor, then its scores."""
    at = corners()
    boxes = np.concatenate([(at[:, :2] + at[:, 2:]) / 2, at[:, 2:] - at[:, :2]], axis=1).T[None]
    nodes = [
        *_scores(),
        helper.make_node("ReduceMax", ["scores", "middle"], ["best"], keepdims=1),
        helper.make_node("Mul", ["best", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "boxes"], ["placed"]),
    ]
    parts = ["placed", "best", "scores"] if objectness else ["placed", "scores"]
    nodes.append(helper.make_node("Concat", parts, ["table" if columns_first else "turned"], axis=1))
    columns = 7 + objectness
    shape = ["n", columns, ANCHORS]
    if not columns_first:
        nodes.append(helper.make_node("Transpose", ["turned"], ["table"], perm=[0, 2, 1]))
        shape = ["n", ANCHORS, columns]
    weights = {**_WEIGHTS, "boxes": boxes, "nothing": np.zeros(1, np.float32), "middle": np.array([1], np.int64)}
    return model(nodes, _INPUT, {"table": (TensorProto.FLOAT, shape)}, weights)


def apart(*, background: bool = False) -> bytes:
    """As SSD and DETR: corners as fractions in an output, scores in another; with a background, logits."""
    nodes = [
        *_scores(),
        helper.make_node("Transpose", ["scores"], ["turned" if background else "confidence"], perm=[0, 2, 1]),
        helper.make_node("ReduceMax", ["scores", "middle"], ["best"], keepdims=1),
        helper.make_node("Transpose", ["best"], ["column"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["column", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "boxes"], ["where"]),
    ]
    if background:
        nodes += [
            helper.make_node("Mul", ["turned", "twenty"], ["strong"]),
            helper.make_node("Add", ["zero", "ten"], ["tens"]),
            helper.make_node("Concat", ["tens", "strong"], ["confidence"], axis=2),
        ]
    weights = {
        **_WEIGHTS,
        "boxes": corners()[None] / SIDE,
        "nothing": np.zeros(1, np.float32),
        "middle": np.array([1], np.int64),
        "twenty": np.full(1, 20, np.float32),
        "ten": np.full(1, 10, np.float32),
    }
    outputs = {
        "where": (TensorProto.FLOAT, ["n", ANCHORS, 4]),
        "confidence": (TensorProto.FLOAT, ["n", ANCHORS, 3 + background]),
    }
    return model(nodes, _INPUT, outputs, weights)


def chosen() -> bytes:
    """As torchvision: only the boxes above 0.6 of one image, their scores, and their classes counted from 1."""
    nodes = [
        *_scores(),
        helper.make_node("ReduceMax", ["scores", "middle"], ["best"], keepdims=0),
        helper.make_node("ArgMax", ["scores"], ["which"], axis=1, keepdims=0),
        helper.make_node("Reshape", ["best", "row"], ["all_scores"]),
        helper.make_node("Reshape", ["which", "row"], ["from_zero"]),
        helper.make_node("Add", ["from_zero", "one"], ["all_labels"]),
        helper.make_node("Greater", ["all_scores", "floor"], ["likely"]),
        helper.make_node("Compress", ["places", "likely"], ["boxes"], axis=0),
        helper.make_node("Compress", ["all_scores", "likely"], ["scores_"], axis=0),
        helper.make_node("Compress", ["all_labels", "likely"], ["labels"], axis=0),
    ]
    weights = {
        **_WEIGHTS,
        "places": corners(),
        "middle": np.array([1], np.int64),
        "row": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
        "floor": np.array([0.6], np.float32),
    }
    outputs = {
        "boxes": (TensorProto.FLOAT, ["k", 4]),
        "scores_": (TensorProto.FLOAT, ["k"]),
        "labels": (TensorProto.INT64, ["k"]),
    }
    return model(nodes, {"pixels": (TensorProto.FLOAT, [1, 3, SIDE, SIDE])}, outputs, weights)


def squares(width: int, height: int, found: Sequence[tuple[str, int, int, int]]) -> Image.Image:
    """Squares on black: colour, left, top, side."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for colour, left, top, side in found:
        draw.rectangle((left, top, left + side - 1, top + side - 1), fill=COLOURS[colour])
    return image
