"""The classification head: a text gets the label of the labelled examples nearest to it, and a score from 0 to 1.

The similarity to a label is that of its nearest example, a quarter of it shared by the next two. The score is how much
nearer the best label is than the others (a softmax over labels), held down where even the best is far away: a text that
is like no example is not made certain by being even less like the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.manifest import ClassificationManifest

__all__ = ["Head"]

Vectors = NDArray[np.float32]

_TEMPERATURE = 0.06
_NEAR = 0.40
_NEAR_WIDTH = 0.035
"""Cosines of MiniLM: unrelated texts stay below 0.3, paraphrases lie above 0.5."""


class Head:
    """Labels for vectors.

    Args:
        manifest: with the labelled examples.
        examples: their vectors, float32 (examples, d), each of length 1.
        others: vectors of texts that belong to no label, float32 (others, d).

    Attributes:
        labels: every label, by name.
    """

    def __init__(self, manifest: ClassificationManifest, examples: Vectors, others: Vectors) -> None:
        self.labels = sorted({example.label for example in manifest.examples})
        self._rows = [
            np.array([row for row, example in enumerate(manifest.examples) if example.label == label])
            for label in self.labels
        ]
        self._examples = examples
        self._others = others
        self._floor = manifest.floor
        self._fallback = manifest.fallback

    def classify(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
        """Labels, their scores, float32 (n,), and every label's, float32 (n, labels), for vectors of length 1."""
        if not len(vectors):
            return [], np.zeros(0, np.float32), np.zeros((0, len(self.labels)), np.float32)
        cosines = vectors @ self._examples.T
        similarities = np.stack([_similarity(cosines[:, rows]) for rows in self._rows], axis=1)
        best = similarities.argmax(axis=1)
        nearest = similarities.max(axis=1)
        if len(self._others):
            similarities = np.concatenate([similarities, (vectors @ self._others.T).max(axis=1)[:, None]], axis=1)
        weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / _TEMPERATURE)
        shares = weights[:, : len(self.labels)] / weights.sum(axis=1, keepdims=True)
        near = 1.0 / (1.0 + np.exp(-(nearest - _NEAR) / _NEAR_WIDTH))
        every = (shares * near[:, None]).astype(np.float32)
        scores = every[np.arange(len(best)), best]
        labels = [
            self.labels[at] if score >= self._floor else self._fallback for at, score in zip(best, scores, strict=True)
        ]
        return labels, scores, every


def _similarity(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """One label's similarity, float32 (n,), from the cosines to its examples, float32 (n, examples)."""
    ordered = -np.sort(-cosines, axis=1)
    next_ones = ordered[:, 1:3]
    if not next_ones.shape[1]:
        return ordered[:, 0]
    return np.asarray(0.75 * ordered[:, 0] + 0.25 * next_ones.mean(axis=1), np.float32)
