"""Contexts as numbers: what a caller says of a situation, checked and turned into one vector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from engine.decisions.bandits.ports import Floats
from engine.decisions.bandits.resource import Feature, width_of
from mesh.errors import InvalidError

__all__ = ["BIAS", "Encoder"]

BIAS = "bias"
"""The name of what holds always: the first number of every context is 1."""


class Encoder:
    """Turns contexts into vectors, and sums over a vector back into sums by feature.

    Args:
        features: what a context says.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features
        self._names = frozenset(feature.name for feature in features)
        self.width = width_of(features)

    def vector(self, context: Mapping[str, Any], field: str) -> Floats:
        """A context as numbers from 0 to 1.

        Args:
            context: JSON, a value for each feature.
            field: where it is in the request, for errors.

        Returns:
            float64, shape (width,): 1, then the features in their order, categories as one number each.

        Raises:
            InvalidError: a value is missing, or none that the feature has.
        """
        for name in context:
            if name not in self._names:
                known = ", ".join(sorted(self._names)) or "none at all"
                raise InvalidError(f"{field}.{name}"[:256], f"there is no such feature; there are {known[:1000]}")
        vector = np.zeros(self.width)
        vector[0] = 1.0
        at = 1
        for feature in self._features:
            if feature.name not in context:
                raise InvalidError(f"{field}.{feature.name}", "is missing; a context says something of every feature")
            position, value = _value(feature, context[feature.name], f"{field}.{feature.name}")
            vector[at + position] = value
            at += feature.width
        return vector

    def by_feature(self, parts: Floats) -> list[tuple[str, float]]:
        """What each feature has of a sum, `bias` first.

        Args:
            parts: float64, shape (width,): what each number of the vector gave.
        """
        found = [(BIAS, float(parts[0]))]
        at = 1
        for feature in self._features:
            found.append((feature.name, float(parts[at : at + feature.width].sum())))
            at += feature.width
        return found

    def names(self) -> Iterator[str]:
        """What each number of a vector stands for, categories as `tier=gold`."""
        yield BIAS
        for feature in self._features:
            if feature.kind == "category":
                yield from (f"{feature.name}={category}" for category in feature.categories)
            else:
                yield feature.name


def _value(feature: Feature, value: object, field: str) -> tuple[int, float]:
    """Where in the feature's numbers a value stands, and which number it is."""
    if feature.kind == "flag":
        if not isinstance(value, bool):
            raise InvalidError(field, "must be true or false")
        return 0, float(value)
    if feature.kind == "category":
        if not isinstance(value, str) or value not in feature.categories:
            known = ", ".join(feature.categories)
            raise InvalidError(field, f"must be one of {known if len(known) < 500 else known[:500] + '…'}")
        return feature.categories.index(value), 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidError(field, "must be a number")
    if not feature.low <= value <= feature.top:
        raise InvalidError(field, f"must be from {feature.low:g} to {feature.top:g}")
    return 0, (value - feature.low) / (feature.top - feature.low)
