"""How sure an order is: which other weights would make another alternative the best, and how often small ones do.

Scores themselves are `engine.decisions.ranking`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.decisions.ranking import Floats, Matrix, Method, order_of, places_of, score

__all__ = ["Stability", "Turn", "stability", "turns"]

_BLOCK_CELLS = 1 << 20
"""Scores that are held at once while weights are varied."""
_STEP = 1e-7
"""So far beyond a point it is looked who leads there."""
_FLAT = 1e-12
"""A coefficient below it is zero but for rounding."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The weight of a criterion from which on another alternative is the best: who, by index."""

    weight: float
    winner: int


@dataclass(frozen=True, slots=True)
class Stability:
    """What became of each alternative while weights were varied.

    Attributes:
        best: its best place, from 1.
        worst: its worst.
        first: the share of the trials in which nobody was better; of several such it is the first.
    """

    best: NDArray[np.intp]
    worst: NDArray[np.intp]
    first: Floats


def turns(matrix: Matrix, winner: int) -> list[Turn | None]:
    """For each criterion the smallest change of its weight that makes another than `winner` the best.

    The other weights keep their proportions (where they are all zero, they are alike), and all add up to 1. In both
    methods the point at which two are equal is the root of a polynomial, so nothing is searched: with w the criterion's
    weight, a weighted sum is linear in w; in TOPSIS closeness is a rising function of worst²/best², both of which are
    (1-w)²(a·u + b) with u = (w/(1-w))², so that two are equal where a quadratic in u is zero.

    Returns:
        None for a criterion where no weight from 0 to 1 does it.
    """
    return [_turn(matrix, winner, criterion) for criterion in range(matrix.weights.size)]


def _turn(matrix: Matrix, winner: int, criterion: int) -> Turn | None:
    now = float(matrix.weights[criterion])
    rest = np.delete(matrix.weights, criterion)
    if not rest.size:
        return None
    rest = rest / rest.sum() if rest.sum() > 0 else np.full(rest.size, 1.0 / rest.size)
    crossings = _linear if matrix.method is Method.WEIGHTED_SUM else _quadratic
    found = [
        (abs(weight - now), rival, weight)
        for rival, weight in crossings(matrix, winner, criterion, rest, now)
        if rival != winner
    ]
    if not found:
        return None
    nearest = min(found)[0]
    return _leader(matrix, criterion, rest, now, [(rival, at) for away, rival, at in found if away <= nearest + _STEP])


def _leader(matrix: Matrix, criterion: int, rest: Floats, now: float, overtaking: list[tuple[int, float]]) -> Turn:
    """Of rivals that overtake at one point, or as far away on either side, the one that is the best just beyond it."""
    turns = []
    for rival, weight in overtaking:
        for beyond in (
            (min(weight + _STEP, 1.0),) if weight > now else (max(weight - _STEP, 0.0), min(weight + _STEP, 1.0))
        ):
            scores = score(matrix, np.insert(rest * (1 - beyond), criterion, beyond))
            turns.append((float(scores[rival] - scores.max()), -rival, Turn(weight, rival)))
    return max(turns, key=lambda turn: turn[:2])[2]


def _linear(matrix: Matrix, winner: int, criterion: int, rest: Floats, now: float) -> Iterator[tuple[int, float]]:
    """Where rivals overtake the winner in a weighted sum: rival and weight, the nearest on either side."""
    own = matrix.parts[:, criterion]
    others = np.delete(matrix.parts, criterion, axis=1) @ rest
    lead_own, lead_others = own[winner] - own, others[winner] - others
    slope = lead_own - lead_others
    for rival in np.flatnonzero(np.abs(slope) > _FLAT):
        weight = float(-lead_others[rival] / slope[rival])
        if _is_overtaken_at(weight, now, rising=bool(slope[rival] < 0)):
            yield int(rival), min(max(weight, 0.0), 1.0)


def _is_overtaken_at(weight: float, now: float, *, rising: bool) -> bool:
    """Whether the winner is overtaken just beyond a weight, on the way there from `now`."""
    if rising:
        return now - _FLAT <= weight < 1 - _FLAT
    return _FLAT < weight <= now + _FLAT


def _quadratic(matrix: Matrix, winner: int, criterion: int, rest: Floats, now: float) -> Iterator[tuple[int, float]]:
    """Where rivals overtake the winner in TOPSIS: rival and weight, the nearest on either side."""
    worst_own, best_own = matrix.to_worst[:, criterion], matrix.to_best[:, criterion]
    worst = np.delete(matrix.to_worst, criterion, axis=1) @ rest**2
    best = np.delete(matrix.to_best, criterion, axis=1) @ rest**2
    # The winner leads while (a u + b)(c' u + d') - (a' u + b')(c u + d) > 0.
    square = worst_own[winner] * best_own - worst_own * best_own[winner]
    linear = worst_own[winner] * best + worst[winner] * best_own - worst_own * best[winner] - worst * best_own[winner]
    constant = worst[winner] * best - worst * best[winner]
    start = math.inf if now >= 1 else (now / (1 - now)) ** 2
    for rival in range(len(square)):
        lead = (float(square[rival]), float(linear[rival]), float(constant[rival]))
        for u in _overtaken(lead, start):
            yield rival, 1.0 if math.isinf(u) else math.sqrt(u) / (1 + math.sqrt(u))


def _overtaken(lead: tuple[float, float, float], start: float) -> Iterator[float]:
    """The points u ≥ 0 nearest to `start`, on either side, beyond which the lead is negative."""
    roots = sorted({root for root in _roots(*lead) if root >= 0} | {0.0, math.inf})
    for low, high in pairwise(roots):
        if _at(lead, _between(low, high)) >= 0:
            continue
        if low >= start or math.isclose(low, start, rel_tol=1e-9):
            yield low
        elif high <= start or math.isclose(high, start, rel_tol=1e-9):
            yield high
        else:  # it is behind where it stands: rounding, at a point where two are equal
            yield start


def _roots(square: float, linear: float, constant: float) -> list[float]:
    """Where square·u² + linear·u + constant is zero, without the digits that the textbook formula loses."""
    size = max(abs(square), abs(linear), abs(constant))
    if size == 0:
        return []
    square, linear, constant = square / size, linear / size, constant / size
    if abs(square) < _FLAT:
        return [] if abs(linear) < _FLAT else [-constant / linear]
    under = linear * linear - 4 * square * constant
    if under < 0:
        return []
    q = -0.5 * (linear + math.copysign(math.sqrt(under), linear))
    return [q / square] + ([constant / q] if q else [])


def _between(low: float, high: float) -> float:
    return low + 1.0 if math.isinf(high) else (low + high) / 2


def _at(lead: tuple[float, float, float], u: float) -> float:
    square, linear, constant = lead
    size = abs(square) * u * u + abs(linear) * u + abs(constant)
    value = (square * u + linear) * u + constant
    return 0.0 if abs(value) <= _FLAT * size else value


def stability(matrix: Matrix, *, variation: float, trials: int, seed: int) -> Stability:
    """What becomes of the order when every weight is varied by up to `variation` of itself, evenly and by itself.

    Args:
        matrix: the problem.
        variation: 0.1 for up to 10 % more or less.
        trials: how often.
        seed: the same gives the same.
    """
    count, width = matrix.parts.shape
    random = np.random.default_rng(seed)
    best, worst = np.full(count, count), np.ones(count, np.intp)
    first = np.zeros(count, np.intp)
    block = max(1, _BLOCK_CELLS // max(count, width))
    for start in range(0, trials, block):
        rows = min(block, trials - start)
        weights = matrix.weights * random.uniform(1 - variation, 1 + variation, (rows, width))
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        scores = score(matrix, weights)
        places = places_of(scores)
        best, worst = np.minimum(best, places.min(axis=0)), np.maximum(worst, places.max(axis=0))
        first += np.bincount(order_of(scores)[:, 0], minlength=count)
    return Stability(best, worst, first / trials)
