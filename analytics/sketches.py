"""Sketches: small summaries that merge, from Apache DataSketches.

Quantiles are KLL sketches (Karnin, Lang, Liberty 2016) with k = 200: a quantile is off by at most 1.33 % in rank with
99 % confidence, in 2.5 KB at most. Distinct counts are HyperLogLog with 2^11 registers: 2.3 % standard error, exact
for a few. Both are as exact after any number of merges as if they had seen everything themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasketches import hll_sketch, hll_union, kll_floats_sketch

__all__ = ["Distinct", "Quantiles"]

_K = 200
_LG_K = 11


class Quantiles:
    """A summary of numbers that answers for their quantiles."""

    __slots__ = ("_sketch",)

    def __init__(self, raw: bytes | None = None) -> None:
        self._sketch = kll_floats_sketch(_K) if raw is None else kll_floats_sketch.deserialize(raw)

    def add(self, values: Sequence[float]) -> None:
        """Take numbers in."""
        update = self._sketch.update
        for value in values:
            update(value)

    def merge(self, other: Quantiles) -> None:
        """Take in everything that another one has seen."""
        self._sketch.merge(other._sketch)

    def at(self, *shares: float) -> list[float]:
        """The values that these shares of the numbers do not exceed; there must be a number."""
        return [float(value) for value in self._sketch.get_quantiles(list(shares), True)]

    @property
    def count(self) -> int:
        """How many numbers it has seen."""
        return int(self._sketch.n)

    def dump(self) -> bytes:
        """As bytes, to be kept."""
        return bytes(self._sketch.serialize())


class Distinct:
    """A summary of things that answers for how many different ones there were."""

    __slots__ = ("_sketch",)

    def __init__(self, raw: bytes | None = None) -> None:
        self._sketch = hll_sketch(_LG_K) if raw is None else hll_sketch.deserialize(raw)

    def add(self, values: set[str]) -> None:
        """Take things in."""
        for value in values:
            self._sketch.update(value)

    def merge(self, other: Distinct) -> None:
        """Take in everything that another one has seen."""
        union = hll_union(_LG_K)
        union.update(self._sketch)
        union.update(other._sketch)
        self._sketch = union.get_result()

    @property
    def estimate(self) -> float:
        """How many different ones there were."""
        return float(self._sketch.get_estimate())

    def dump(self) -> bytes:
        """As bytes, to be kept."""
        return bytes(self._sketch.serialize_compact())
