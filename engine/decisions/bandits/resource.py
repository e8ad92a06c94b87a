"""Bandits as resources: what they choose between, what contexts say, how they are kept.

What a bandit has learnt is rows of its own, which `engine.decisions.bandits.ports` describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec

from engine.decisions.bandits.ports import BanditRows
from mesh.catalogue import Catalogue
from mesh.db import Transaction
from mesh.entries import Entry
from mesh.errors import InvalidError

__all__ = ["Algorithm", "Arm", "Bandit", "Bandits", "Feature", "check_bandit", "width_of"]

MAX_WIDTH = 256
MAX_CELLS = 1 << 22
"""Numbers in the matrices of all arms: 32 MiB."""
_MIN_RIDGE = 1e-6
"""Below it a matrix of contexts that are alike can no longer be inverted in doubles."""
_MIN_DECAY = 0.1
_EXPLORATION = 0.5
"""No value between two ends varies by more than half of what is between them (Popoviciu's inequality)."""
_HORIZON = timedelta(days=7)

Algorithm = Literal["linucb", "thompson"]


class Arm(msgspec.Struct, frozen=True):
    """Something that can be chosen: its id, and what people call it."""

    id: str
    title: str = ""


class Feature(msgspec.Struct, frozen=True):
    """Something that a context says: a number in a range, one of some categories, or a flag.

    Attributes:
        name: as contexts name it.
        kind: what it is.
        low: the lowest number.
        high: the highest; 0 beside a lowest of 0 means 1.
        categories: what a category may be.
    """

    name: str
    kind: Literal["number", "category", "flag"]
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()

    @property
    def top(self) -> float:
        """The highest number, the default applied."""
        return self.high if self.low or self.high else 1.0

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.categories) if self.kind == "category" else 1


class Bandit(msgspec.Struct, frozen=True):
    """A bandit, as it was said; what is zero or None stands for its default, which the properties give.

    Attributes:
        arms: what it chooses between.
        features: what a context says.
        algorithm: how it weighs what it knows against what it does not.
        exploration: how much it tries.
        random_share: the share of choices made at random.
        regularisation: how strongly it believes at first that weights are zero.
        decay: what earlier rewards of an arm count at each new one.
        seed: of its randomness; 0 for one of its own.
        min_reward: the lowest reward.
        max_reward: the highest; 0 beside a lowest of 0 means 1.
        horizon_s: how long a reward is taken.
    """

    arms: tuple[Arm, ...]
    features: tuple[Feature, ...] = ()
    algorithm: Algorithm = "linucb"
    exploration: float | None = None
    random_share: float = 0.0
    regularisation: float = 0.0
    decay: float = 0.0
    seed: int = 0
    min_reward: float = 0.0
    max_reward: float = 0.0
    horizon_s: float | None = None

    @property
    def spread(self) -> float:
        """`exploration`, the default applied."""
        return _EXPLORATION if self.exploration is None else self.exploration

    @property
    def ridge(self) -> float:
        """`regularisation`, the default applied."""
        return self.regularisation or 1.0

    @property
    def kept_share(self) -> float:
        """`decay`, the default applied."""
        return self.decay or 1.0

    @property
    def top_reward(self) -> float:
        """`max_reward`, the default applied."""
        return self.max_reward if self.min_reward or self.max_reward else 1.0

    @property
    def taken_s(self) -> float:
        """`horizon_s`, the default applied."""
        return _HORIZON.total_seconds() if self.horizon_s is None else self.horizon_s


class Bandits(Catalogue):
    """Keeps bandits; what they have learnt goes with them.

    Args:
        database: the service's own.
        rows: statements on entries.
        learnt: statements on what bandits have learnt.
    """

    def __init__(self, database: Any, rows: Any, learnt: BanditRows) -> None:  # noqa: ANN401 -- as the base takes them
        super().__init__(database, rows)
        self._learnt = learnt

    def check(self, _: Transaction, entry: Entry[Any]) -> None:
        """Refuse a bandit that cannot be."""
        check_bandit(entry.body)

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Begin to count, or forget what was learnt of arms that are gone."""
        if entry.revision == 1:
            self._learnt.begin(transaction, entry.uid)
        else:
            self._learnt.keep_arms(transaction, entry.uid, {arm.id for arm in entry.body.arms})

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Forget all that was learnt."""
        self._learnt.end(transaction, entry.uid)


def width_of(features: Sequence[Feature]) -> int:
    """How many numbers a context becomes: one that is always 1, and the features'."""
    return 1 + sum(feature.width for feature in features)


def check_bandit(bandit: Bandit) -> None:
    """See that a bandit can be kept.

    Raises:
        InvalidError: naming the field.
    """
    if not bandit.arms:
        raise InvalidError("bandit.arms", "must hold at least one arm")
    _check_unique("bandit.arms", "id", [arm.id for arm in bandit.arms])
    _check_unique("bandit.features", "name", [feature.name for feature in bandit.features])
    for at, feature in enumerate(bandit.features):
        _check_feature(f"bandit.features[{at}]", feature)
    width = width_of(bandit.features)
    if width > MAX_WIDTH:
        raise InvalidError("bandit.features", f"their width is {width}; at most {MAX_WIDTH} are taken")
    if len(bandit.arms) * width**2 > MAX_CELLS:
        raise InvalidError("bandit.arms", f"at most {MAX_CELLS // width**2} with features of width {width}")
    if 0 < bandit.regularisation < _MIN_RIDGE:
        raise InvalidError("bandit.regularisation", f"must be at least {_MIN_RIDGE}, or 0 for 1")
    if 0 < bandit.decay < _MIN_DECAY:
        raise InvalidError("bandit.decay", f"must be at least {_MIN_DECAY}, or 0 for 1")
    if bandit.top_reward <= bandit.min_reward:
        raise InvalidError("bandit.max_reward", "must be above min_reward")


def _check_feature(field: str, feature: Feature) -> None:
    if feature.name == "bias":
        raise InvalidError(f"{field}.name", "`bias` is what holds always; choose another name")
    if feature.kind == "category":
        if not feature.categories:
            raise InvalidError(f"{field}.categories", "must name what a category may be")
        _check_unique(f"{field}.categories", "", list(feature.categories))
    elif feature.categories:
        raise InvalidError(f"{field}.categories", f"belong to a CATEGORY; this is a {feature.kind.upper()}")
    if feature.kind == "number":
        if feature.top <= feature.low:
            raise InvalidError(f"{field}.max", "must be above min")
    elif feature.low or feature.high:
        raise InvalidError(f"{field}.min", f"and max belong to a NUMBER; this is a {feature.kind.upper()}")


def _check_unique(field: str, part: str, names: Sequence[str]) -> None:
    known: set[str] = set()
    for at, name in enumerate(names):
        if name in known:
            raise InvalidError(f"{field}[{at}]{'.' if part else ''}{part}", f"`{name}` is there twice")
        known.add(name)
