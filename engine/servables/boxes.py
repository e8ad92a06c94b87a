"""Boxes in images: which of many that overlap stay, and where those of the graph's input are in the image itself.

A box is four float32: left, top, right, bottom. What a graph's own four mean is `engine.servables.box_reading`'s.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mesh.sandbox import Wanted

__all__ = ["Boxes", "in_image", "suppress"]

Boxes = NDArray[np.float32]


def suppress(
    boxes: Boxes,
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    *,
    overlap: float,
    across_classes: bool,
    most: int,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: the surest box stays, those that overlap it too much go, and so on.

    Args:
        boxes: float32 (n, 4).
        scores: float32 (n,).
        classes: int64 (n,).
        overlap: the intersection of two boxes over their union, above which the less sure one goes. The operator
            NonMaxSuppression of ONNX has the same rule.
        across_classes: whether boxes of different classes are compared.
        most: how many stay at most.

    Returns:
        Which stay, int64, the surest first; of equal scores the first.
    """
    order = np.argsort(-scores, kind="stable")
    exact = boxes.astype(np.float64)
    areas = np.maximum(0, exact[:, 2] - exact[:, 0]) * np.maximum(0, exact[:, 3] - exact[:, 1])
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(int(best))
        corners = np.maximum(exact[best, :2], exact[order, :2]), np.minimum(exact[best, 2:], exact[order, 2:])
        shared = np.maximum(0, corners[1] - corners[0]).prod(axis=1)
        union = areas[best] + areas[order] - shared
        near = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0) > overlap
        if not across_classes:
            near &= classes[order] == classes[best]
        order = order[~near]
    return np.array(kept, np.int64)


def in_image(boxes: Boxes, wanted: Wanted, width: int, height: int) -> Boxes:
    """Boxes of the graph's input as boxes of the image, in its pixels, cut at its sides.

    Args:
        boxes: in pixels of the input, float32 (n, 4).
        wanted: how the image was brought to the input's size.
        width: of the image.
        height: of the same.
    """
    full_width, full_height, left, top = width, height, 0, 0
    if wanted.fit == "pad":  # as the image was filled up before it was scaled, in `mesh.sandboxed.images`
        factor = max(width / wanted.width, height / wanted.height)
        full_width = max(width, round(wanted.width * factor))
        full_height = max(height, round(wanted.height * factor))
        left, top = (full_width - width) // 2, (full_height - height) // 2
    scale = np.array([full_width / wanted.width, full_height / wanted.height] * 2, np.float64)
    moved = boxes.astype(np.float64) * scale - (left, top, left, top)
    return np.asarray(np.clip(moved, 0, (width, height, width, height)), np.float32)
