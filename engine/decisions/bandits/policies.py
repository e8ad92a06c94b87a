"""How an arm is chosen by what is believed, and how likely each was to be.

What is believed is `engine.decisions.bandits.beliefs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from engine.decisions.bandits.beliefs import Beliefs
from engine.decisions.bandits.ports import Floats
from engine.decisions.bandits.resource import Bandit

__all__ = ["Verdict", "chances_of_highest", "choose"]

_SAME = 1e-12
"""Scores that differ by less are the same."""
_NODES = np.linspace(-6.0, 6.0, 33)
"""Where one belief is looked at, in standard deviations: the error of the integral is below 1e-3."""
_FINE_NODES = np.linspace(-12.0, 12.0, 385)
_MAX_POINTS = 2112
_MAX_CELLS = 1 << 18
"""Points times arms of one integral."""


Below: TypeAlias = Callable[[Floats, Floats, Floats], Floats]
"""Distribution functions at points, of draws with these means and deviations: float64, shape (arms, points)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was chosen in a context. Arrays have an entry for each arm, in rewards scaled to 0 to 1.

    Attributes:
        arm: the index of the chosen one.
        random: whether chance alone chose it.
        scores: what arms were compared by.
        expected: the rewards expected.
        uncertainty: standard deviations, times the bandit's exploration.
        probabilities: how likely each was to be chosen.
    """

    arm: int
    random: bool
    scores: Floats
    expected: Floats
    uncertainty: Floats
    probabilities: Floats


def choose(bandit: Bandit, beliefs: Beliefs, context: Floats, random: np.random.Generator) -> Verdict:
    """Choose an arm.

    Args:
        bandit: what it is, and how it chooses.
        beliefs: what it believes of its arms.
        context: float64, shape (d,).
        random: decides draws, ties, and what is left to chance.
    """
    arms = len(bandit.arms)
    left_to_chance, any_arm = random.random() < bandit.random_share, int(random.integers(arms))
    if bandit.algorithm == "thompson":
        scores, expected, uncertainty, chances = _thompson(bandit, beliefs, context, random)
    else:
        expected = beliefs.expected(context)
        uncertainty = bandit.spread * beliefs.deviation(context)
        scores = expected + uncertainty
        chances = _among_best(scores)
    best = np.flatnonzero(scores >= scores.max() - _SAME)
    arm = any_arm if left_to_chance else int(best[random.integers(best.size)])
    probabilities = bandit.random_share / arms + (1.0 - bandit.random_share) * chances
    return Verdict(arm, left_to_chance, scores, expected, uncertainty, probabilities)


def _thompson(
    bandit: Bandit, beliefs: Beliefs, context: Floats, random: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats]:
    """Draws, expected rewards, uncertainties, and chances to have the highest draw.

    A draw of weights from N(A⁻¹b, v²A⁻¹) gives a reward in this context from N(xᵀA⁻¹b, v²xᵀA⁻¹x): that is drawn at
    once. Without features it is a Beta distribution with the counts of rewards and of what was missing to 1.
    """
    spread = bandit.spread
    if bandit.features:
        expected, deviation = beliefs.expected(context), spread * beliefs.deviation(context)
        drawn = expected + deviation * random.standard_normal(expected.size)
        if not spread:
            return drawn, expected, deviation, _among_best(expected)
        return drawn, expected, deviation, chances_of_highest(expected, deviation, _normal)
    expected = (1.0 + beliefs.total) / (2.0 + beliefs.count)
    if not spread:
        return expected, expected, np.zeros_like(expected), _among_best(expected)
    # the default, 0.5, counts as they are
    scale = (0.5 / spread) ** 2
    alpha = 1.0 + scale * np.maximum(beliefs.total, 0.0)
    beta = 1.0 + scale * np.maximum(beliefs.count - beliefs.total, 0.0)
    deviation = np.sqrt(alpha * beta / ((alpha + beta) ** 2 * (alpha + beta + 1.0)))
    drawn = random.beta(alpha, beta)
    middle = alpha / (alpha + beta)
    return drawn, middle, deviation, chances_of_highest(middle, deviation, _Beta(alpha, beta))


def _among_best(scores: Floats) -> Floats:
    """One share for each arm of the best score."""
    best = scores >= scores.max() - _SAME
    shares: Floats = best / best.sum()
    return shares


class _Beta:
    """The distribution functions of some Beta distributions, by the trapezoidal rule on points of their own."""

    def __init__(self, alpha: Floats, beta: Floats) -> None:
        self._alpha = alpha
        self._beta = beta

    def __call__(self, points: Floats, means: Floats, deviations: Floats) -> Floats:
        below = np.empty((len(means), points.size))
        for at, (alpha, beta) in enumerate(zip(self._alpha, self._beta, strict=True)):
            own = np.clip(means[at] + deviations[at] * _FINE_NODES, 0.0, 1.0)
            inside = np.clip(own, 1e-300, 1.0 - 1e-16)
            log = (alpha - 1.0) * np.log(inside) + (beta - 1.0) * np.log1p(-inside)
            density = np.exp(log - log.max())
            steps = np.diff(own) * (density[1:] + density[:-1]) / 2.0
            reached = np.concatenate([[0.0], np.cumsum(steps)])
            below[at] = np.interp(points, own, reached / reached[-1])
        return below


def _normal(points: Floats, means: Floats, deviations: Floats) -> Floats:
    """Distribution functions of normal distributions, within 1e-7 (Abramowitz and Stegun 1964, 7.1.26)."""
    z = (points - means[:, None]) / np.maximum(deviations, 1e-300)[:, None]
    size = np.minimum(np.abs(z) / np.sqrt(2.0), 30.0)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * np.exp(-size * size) / 2.0
    below: Floats = np.where(z < 0, tail, 1.0 - tail)
    return below


def chances_of_highest(means: Floats, deviations: Floats, distribution: Below) -> Floats:
    """How likely each of some independent draws is to be the highest.

    The integral of one's density times all others' distribution functions, cell by cell over points that lie where the
    draws lie.

    Args:
        means: float64, shape (arms,).
        deviations: float64, shape (arms,).
        distribution: of the draws.

    Returns:
        float64, shape (arms,); they add up to 1.
    """
    arms = len(means)
    if arms == 1:
        return np.ones(1)
    floor = float((means - 6.0 * deviations).max())  # the highest draw is hardly ever below it
    points = np.unique((means[:, None] + deviations[:, None] * _NODES).ravel())
    low = float((means - 6.0 * deviations).min())
    points = np.concatenate([[low - 1.0], points[points >= floor], [float(points[-1]) + 1.0]])
    most = min(_MAX_POINTS, max(65, _MAX_CELLS // arms))
    if points.size > most:
        points = points[np.unique(np.linspace(0, points.size - 1, most).astype(np.int64))]
    below = distribution(points, means, deviations)
    log = np.log(np.maximum(below, 1e-300))
    others = np.exp(log.sum(axis=0) - log)
    cells = np.diff(below, axis=1) * (others[:, 1:] + others[:, :-1]) / 2.0
    chances = cells.sum(axis=1)
    shares: Floats = chances / chances.sum()
    return shares
