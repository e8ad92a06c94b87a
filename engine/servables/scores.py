"""What the numbers in a table of classes are, probabilities or logits, and how they become probabilities."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.errors import ManifestError
from engine.tensor import Tensor

__all__ = ["Scores", "kind_of_scores", "probabilities"]

Scores: TypeAlias = Literal["probabilities", "logits"]


def kind_of_scores(tried: Tensor, output: str, *, multi_label: bool = False) -> Scores:
    """What the numbers of a first answer are.

    Args:
        tried: the answer, float (..., classes).
        output: where it comes from.
        multi_label: whether each class is true or false by itself, and they need not come to 1.

    Raises:
        ManifestError: it cannot be seen; the message has the line to add.
    """
    within = bool((tried >= -1e-4).all() and (tried <= 1 + 1e-4).all())
    if within and (multi_label or np.allclose(tried.sum(axis=-1), 1.0, atol=1e-2)):
        return "probabilities"
    if (tried < 0).any() or (tried > 1).any():
        return "logits"
    raise ManifestError(
        f"the numbers in `{output}` neither add up to 1 nor leave the range from 0 to 1; "
        "add this line to model.yaml: `scores: logits` (or `scores: probabilities`)"
    )


def probabilities(table: Tensor, scores: Scores, *, multi_label: bool = False) -> NDArray[np.float32]:
    """Probabilities, float32 (..., classes): by a softmax of logits, or a sigmoid of each where they stand alone."""
    values: NDArray[np.float32] = np.asarray(table, np.float32)
    if scores == "probabilities":
        return values
    if multi_label:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), np.float32)  # a sigmoid that does not overflow
    weights = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)
