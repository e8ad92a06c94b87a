"""What a bandit believes: sums over rewards, and the linear model that they make.

For each arm a ridge regression of its rewards on their contexts (Li et al. 2010, algorithm 1, disjoint models):
A = ridge·I + Σ x xᵀ, b = Σ r x, weights A⁻¹ b. The sums alone are kept; A⁻¹ is this process's own. A reward changes
A by x xᵀ, so A⁻¹ follows by Sherman and Morrison's formula, and is solved anew now and then, lest rounding add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from engine.decisions.bandits.ports import ArmState, Floats

__all__ = ["Beliefs", "learnt", "nothing_of"]

_MAX_STEPS = 64
"""Sherman-Morrison steps before A⁻¹ is solved anew."""


def nothing_of(arm: str, width: int) -> ArmState:
    """What is known of an arm that has had no reward."""
    return ArmState(arm, 0, 0, 0.0, 0.0, np.zeros((width, width)), np.zeros(width), np.zeros(width))


def learnt(state: ArmState, context: Floats, reward: float, kept_share: float, revision: int) -> ArmState:
    """What is known of an arm after another reward.

    Args:
        state: before it.
        context: float64, shape (d,).
        reward: from 0 to 1.
        kept_share: what all earlier ones count from now on, of what they counted.
        revision: the bandit's number of this reward.
    """
    return replace(
        state,
        revision=revision,
        updates=state.updates + 1,
        count=state.count * kept_share + 1.0,
        total=state.total * kept_share + reward,
        gram=state.gram * kept_share + np.outer(context, context),
        moment=state.moment * kept_share + reward * context,
        last=context,
    )


class Beliefs:
    """The linear models of some arms, brought up to date by what was learnt meanwhile.

    Args:
        arms: their ids, in the order of all arrays.
        width: of a context, d.
        ridge: how strongly weights are believed to be zero.
        decays: whether earlier rewards lose their weight: then no formula brings A⁻¹ up to date.

    Attributes:
        revision: the bandit's number of the last reward that is in it.
        weights: float64, shape (arms, d).
        inverse: float64, shape (arms, d, d): A⁻¹.
        count: float64, shape (arms,): what each arm's rewards count.
        total: float64, shape (arms,): their sum, scaled to 0 to 1.
    """

    def __init__(self, arms: Sequence[str], width: int, ridge: float, *, decays: bool) -> None:
        self._place = {arm: at for at, arm in enumerate(arms)}
        self._ridge = ridge
        self._decays = decays
        self._updates = np.zeros(len(arms), np.int64)
        self._steps = np.zeros(len(arms), np.int64)
        self.revision = 0
        self.weights = np.zeros((len(arms), width))
        self.inverse = np.broadcast_to(np.eye(width) / ridge, (len(arms), width, width)).copy()
        self.count = np.zeros(len(arms))
        self.total = np.zeros(len(arms))

    def follow(self, states: Iterable[ArmState]) -> None:
        """Take in what was learnt; what is older than what is known is left alone."""
        for state in states:
            self.revision = max(self.revision, state.revision)
            at = self._place.get(state.arm)
            if at is None or state.updates <= self._updates[at]:
                continue
            one_more = state.updates == self._updates[at] + 1 and self._steps[at] < _MAX_STEPS
            if one_more and not self._decays:
                self.inverse[at] = _stepped(self.inverse[at], state.last)
                self._steps[at] += 1
            else:
                self.inverse[at] = _solved(state.gram, self._ridge)
                self._steps[at] = 0
            self._updates[at] = state.updates
            self.weights[at] = self.inverse[at] @ state.moment
            self.count[at], self.total[at] = state.count, state.total

    def expected(self, context: Floats) -> Floats:
        """The reward expected of each arm, scaled to 0 to 1; float64, shape (arms,)."""
        means: Floats = self.weights @ context
        return means

    def deviation(self, context: Floats) -> Floats:
        """How uncertain each is, √(xᵀ A⁻¹ x); float64, shape (arms,)."""
        return np.sqrt(np.maximum((self.inverse @ context) @ context, 0.0))


def _stepped(inverse: Floats, context: Floats) -> Floats:
    """(A + x xᵀ)⁻¹ from A⁻¹ (Sherman and Morrison, 1950)."""
    moved = inverse @ context
    stepped: Floats = inverse - np.outer(moved, moved) / (1.0 + context @ moved)
    return stepped


def _solved(gram: Floats, ridge: float) -> Floats:
    """(ridge·I + gram)⁻¹, by Cholesky's factors."""
    factor = np.linalg.inv(np.linalg.cholesky(gram + ridge * np.eye(len(gram))))
    solved: Floats = factor.T @ factor
    return solved
