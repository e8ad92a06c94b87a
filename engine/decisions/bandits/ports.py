"""What a bandit's memory is made of, and the rows in which it is kept.

The statements are `engine.store`'s; what is learnt from a reward is `engine.decisions.bandits.beliefs`'.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mesh.db import Transaction

__all__ = ["ArmState", "BanditRows", "Counts", "Floats", "KeptChoice", "Outcomes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmState:
    """All that a bandit knows of an arm: the sums over its rewards, each with what it still counts.

    Attributes:
        arm: its id.
        revision: the bandit's number of the last reward of it.
        updates: how many rewards it has learnt from.
        count: the sum of what they count.
        total: the sum of rewards, scaled to 0 to 1.
        gram: float64, shape (d, d): the sum of x xᵀ over contexts x.
        moment: float64, shape (d,): the sum of reward times x.
        last: float64, shape (d,): the context of the last one.
    """

    arm: str
    revision: int
    updates: int
    count: float
    total: float
    gram: Floats
    moment: Floats
    last: Floats


@dataclass(frozen=True, slots=True)
class KeptChoice:
    """A choice as it is kept until its reward is known, and a while longer.

    Attributes:
        id: names it.
        sequence: the bandit's number of it.
        arm: what was chosen.
        context: float64, shape (d,).
        probability: how likely that was.
        chosen: when, seconds since 1970.
        reward: what came of it; None as long as nobody has said.
    """

    id: str
    sequence: int
    arm: str
    context: Floats
    probability: float
    chosen: float
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many choices a bandit has made, and how many rewards it has learnt from."""

    choices: int
    updates: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Sums over an arm's kept choices with a reward r and a probability p: of r/p, 1/p and 1/p²."""

    weighted: float
    weights: float
    squares: float


class BanditRows(Protocol):
    """The rows of what bandits have learnt, by the bandit's uid; `engine.store` says what each method does."""

    def begin(self, transaction: Transaction, bandit: str) -> None:
        """Begin to count."""

    def end(self, transaction: Transaction, bandit: str) -> None:
        """Forget everything."""

    def keep_arms(self, transaction: Transaction, bandit: str, arms: Collection[str]) -> None:
        """Forget the other arms."""

    def counts(self, transaction: Transaction, bandit: str) -> Counts | None:
        """How much it has done; None where there is no such bandit."""

    def take_numbers(self, transaction: Transaction, bandit: str, count: int) -> int | None:
        """The first of the next numbers for choices."""

    def next_update(self, transaction: Transaction, bandit: str) -> int:
        """The next number for a reward."""

    def arm(self, transaction: Transaction, bandit: str, arm: str) -> ArmState | None:
        """What is known of an arm."""

    def arms_since(self, transaction: Transaction, bandit: str, revision: int) -> Sequence[ArmState]:
        """What is known of the arms that have learnt since."""

    def put_arm(self, transaction: Transaction, bandit: str, state: ArmState) -> None:
        """Keep what is known of an arm."""

    def add_choices(self, transaction: Transaction, bandit: str, choices: Sequence[KeptChoice]) -> None:
        """Keep choices."""

    def choice(self, transaction: Transaction, bandit: str, choice: str) -> KeptChoice | None:
        """A choice that is kept."""

    def put_reward(self, transaction: Transaction, bandit: str, choice: str, reward: float) -> bool:
        """Keep a choice's reward; false where it has one."""

    def forget_choices(self, transaction: Transaction, bandit: str, *, upto: int, before: float) -> None:
        """Forget old choices."""

    def outcomes(self, transaction: Transaction, bandit: str) -> dict[str, Outcomes]:
        """Sums over what is kept, by arm."""
