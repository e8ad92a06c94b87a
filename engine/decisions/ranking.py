"""Ordering alternatives by several criteria: the weighted sum, and TOPSIS.

How sure an order is, when weights were others, is `engine.decisions.sensitivity`.

Every criterion is turned so that more is better before anything else: from there on a matrix `parts`, alternatives by
criteria, and weights that add up to 1 say it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from mesh.errors import InvalidError

__all__ = [
    "MAX_CELLS", "Criterion", "Floats", "Matrix", "Method", "Normalisation", "Problem", "matrix_of", "order_of",
    "places_of", "score",
]  # fmt: skip

Floats = NDArray[np.float64]
MAX_CELLS = 16_384
"""Alternatives times criteria."""
_SAME = 1e-12
"""Scores that differ by less are the same: rounding alone makes such differences."""


class Method(Enum):
    """How criteria become one score."""

    WEIGHTED_SUM = 1
    TOPSIS = 2


class Normalisation(Enum):
    """How values of different units become comparable."""

    MIN_MAX = 1
    VECTOR = 2


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that counts: its name, how much it counts, and whether less is better."""

    name: str
    weight: float
    is_cost: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be ordered.

    Attributes:
        criteria: what counts.
        names: of the alternatives.
        values: for each alternative its values, in the order of the criteria.
        method: how criteria become one score.
        normalisation: how values become comparable.
    """

    criteria: tuple[Criterion, ...]
    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    method: Method = Method.WEIGHTED_SUM
    normalisation: Normalisation = Normalisation.MIN_MAX


@dataclass(frozen=True, slots=True)
class Matrix:
    """A problem in numbers.

    Attributes:
        method: how criteria become one score.
        normalised: float64, alternatives by criteria, as normalised.
        parts: the same, turned so that more is better.
        weights: float64, one a criterion; they add up to 1.
        to_best: TOPSIS: squares of what `parts` lack to the best of each criterion, before weights; else empty.
        to_worst: the same to the worst.
    """

    method: Method
    normalised: Floats
    parts: Floats
    weights: Floats
    to_best: Floats
    to_worst: Floats


def matrix_of(problem: Problem) -> Matrix:
    """A problem in numbers.

    Raises:
        InvalidError: names are there twice, all weights are zero, a value is missing or no number, or it is too much.
    """
    _check(problem)
    values = np.array(problem.values, np.float64)
    costs = np.array([criterion.is_cost for criterion in problem.criteria])
    weights = np.array([criterion.weight for criterion in problem.criteria], np.float64)
    weights /= weights.max()  # so that a sum of tiny ones is not zero
    weights /= weights.sum()
    topsis = problem.method is Method.TOPSIS
    if problem.normalisation is Normalisation.MIN_MAX:
        normalised = parts = _min_max(values, costs)
    else:
        normalised = _vector(values)
        parts = np.where(costs, -normalised if topsis else 1.0 - normalised, normalised)
    none = np.zeros((0, 0))
    to_best = (parts.max(axis=0) - parts) ** 2 if topsis else none
    to_worst = (parts - parts.min(axis=0)) ** 2 if topsis else none
    return Matrix(problem.method, normalised, parts, weights, to_best, to_worst)


def score(matrix: Matrix, weights: Floats) -> Floats:
    """The scores with some weights, from the worst to the best possible.

    Args:
        matrix: the problem.
        weights: float64, shape (..., criteria); each row adds up to 1.

    Returns:
        float64, shape (..., alternatives). TOPSIS: the relative closeness of Hwang and Yoon (1981); 1 where an
        alternative is both the best and the worst in all that counts.
    """
    if matrix.method is Method.WEIGHTED_SUM:
        return np.asarray(weights @ matrix.parts.T)
    best = np.sqrt(weights**2 @ matrix.to_best.T)
    worst = np.sqrt(weights**2 @ matrix.to_worst.T)
    total = best + worst
    closeness: Floats = np.divide(worst, total, out=np.ones_like(total), where=total > 0)
    return closeness


def order_of(scores: Floats) -> NDArray[np.intp]:
    """Alternatives from best to worst, by index; those that are the same keep their order."""
    return np.argsort(-_levelled(scores), axis=-1, kind="stable")


def places_of(scores: Floats) -> NDArray[np.intp]:
    """Each alternative's place, from 1: one more than are better; shape as `scores`."""
    levelled = _levelled(scores)
    ascending = np.sort(levelled, axis=-1)
    if scores.ndim == 1:
        return scores.size + 1 - np.searchsorted(ascending, levelled, side="right")
    found = [row.size + 1 - np.searchsorted(up, row, side="right") for up, row in zip(ascending, levelled, strict=True)]
    return np.array(found)


def _levelled(scores: Floats) -> Floats:
    """Scores without what rounding has made of equal ones."""
    return np.round(scores / _SAME) * _SAME


def _min_max(values: Floats, costs: NDArray[np.bool_]) -> Floats:
    """The worst becomes 0, the best 1; where all are equal each becomes 1."""
    scaled = values / _largest(values)
    low, high = scaled.min(axis=0), scaled.max(axis=0)
    span = high - low
    gained = np.where(costs, high - scaled, scaled - low)
    shares: Floats = np.divide(gained, span, out=np.ones_like(gained), where=span > 0)
    return shares


def _vector(values: Floats) -> Floats:
    """Each column divided by its Euclidean length; zeros stay."""
    scaled = values / _largest(values)
    length = np.sqrt((scaled**2).sum(axis=0))
    shares: Floats = np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0)
    return shares


def _largest(values: Floats) -> Floats:
    """The largest of each column's sizes, 1 where all are zero: divided by it nothing overflows."""
    largest = np.abs(values).max(axis=0)
    return np.where(largest > 0, largest, 1.0)


def _check(problem: Problem) -> None:
    criteria = [criterion.name for criterion in problem.criteria]
    for field, names in (("criteria", criteria), ("alternatives", problem.names)):
        if not names:
            raise InvalidError(field, "must hold at least one")
        _check_names(field, names)
    if len(criteria) * len(problem.names) > MAX_CELLS:
        raise InvalidError(
            "alternatives",
            f"{len(problem.names)} with {len(criteria)} criteria are more than the {MAX_CELLS} values allowed",
        )
    for at, criterion in enumerate(problem.criteria):
        if not (np.isfinite(criterion.weight) and criterion.weight >= 0):
            raise InvalidError(f"criteria[{at}].weight", "must be a number from 0")
    if not any(criterion.weight for criterion in problem.criteria):
        raise InvalidError("criteria", "all weights are 0; nothing counts")
    for at, row in enumerate(problem.values):
        for name, value in zip(criteria, row, strict=True):
            if not np.isfinite(value):
                raise InvalidError(f"alternatives[{at}].values[{name}]", "must be a finite number")


def _check_names(field: str, names: Sequence[str]) -> None:
    known: set[str] = set()
    for at, name in enumerate(names):
        if name in known:
            raise InvalidError(f"{field}[{at}].name", f"`{name}` is there twice")
        known.add(name)
