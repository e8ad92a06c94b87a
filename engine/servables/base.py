"""What every model in memory is to those who ask it, and the checks that all of them make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.errors import TensorError
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import PLAIN, Terms
from engine.tensor import Tensor, TensorSpec, check_described, datatype_of, texts_tensor

__all__ = [
    "MAX_DEPTH",
    "Classified",
    "Inference",
    "Items",
    "NamesColumns",
    "Servable",
    "Tensors",
    "check_tensors",
]

MAX_DEPTH = 4
"""So many models may stand above each other."""

Tensors: TypeAlias = Mapping[str, Tensor]
Items: TypeAlias = Literal["texts", "images", "rows"]


@dataclass(frozen=True, slots=True)
class Inference:
    """What a model answered.

    Attributes:
        outputs: every output by name.
        rows: how many rows were computed.
        tokens: how many tokens the model read; 0 where it reads none.
    """

    outputs: dict[str, Tensor]
    rows: int
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Classified:
    """Labels for n items.

    Attributes:
        labels: the chosen ones.
        scores: how sure the model is of them, float32 (n,).
        names: every label there is.
        all_scores: the score of each, float32 (n, names).
        tokens: how many tokens the model read.
    """

    labels: Sequence[str]
    scores: NDArray[np.float32]
    names: Sequence[str]
    all_scores: NDArray[np.float32]
    tokens: int = 0

    def answer(self) -> Inference:
        """What `infer` says of it: `label` BYTES (n,) and `score` FP32 (n,)."""
        return Inference({"label": texts_tensor(self.labels), "score": self.scores}, len(self.labels), self.tokens)


class Servable(Protocol):
    """A model in memory."""

    @property
    def platform(self) -> str:
        """What computes it."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""

    @property
    def inferred(self) -> Sequence[str]:
        """What its manifest left out and its files told, as lines of the manifest."""

    @property
    def classifies(self) -> Items | None:
        """What it gives labels to; None where it gives none."""

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Every output for these inputs.

        Args:
            tensors: the inputs by name.
            terms: for whom, how urgent, and until when.

        Raises:
            EngineError: the inputs do not fit, or the model failed.
        """

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for texts, images or rows, as `classifies` says.

        Raises:
            EngineError: as `infer`; or it gives no labels, and the message says what to add to its manifest.
        """

    @property
    def policy(self) -> BatchPolicy | None:
        """How requests are put together; None where each is computed alone."""

    @property
    def waiting(self) -> int:
        """How many requests wait."""

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered. Blocks."""


@runtime_checkable
class NamesColumns(Protocol):
    """A model some of whose outputs have a column for each label."""

    @property
    def columns_of(self) -> Mapping[str, Sequence[str]]:
        """The labels of an output's columns, by the output's name."""


def check_tensors(specs: Sequence[TensorSpec], tensors: Tensors) -> None:
    """Exactly these inputs, each as its spec says.

    Raises:
        TensorError: naming the first input that is missing, too many, or wrong.
    """
    for spec in specs:
        array = tensors.get(spec.name)
        if array is None:
            raise _misnamed(specs, tensors)
        check_described(spec, datatype_of(array), array.shape)
    if len(tensors) > len(specs):
        raise _misnamed(specs, tensors)


def _misnamed(specs: Sequence[TensorSpec], tensors: Tensors) -> TensorError:
    """What is wrong with the names of inputs."""
    known = [spec.name for spec in specs]
    for name in tensors:
        if name not in known:
            return TensorError(name, f"the model has no such input; it takes {', '.join(known)}")
    missing = next(name for name in known if name not in tensors)
    return TensorError(missing, f"is missing; the model takes {', '.join(known)}")
