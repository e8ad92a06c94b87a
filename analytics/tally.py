"""What a batch of facts adds: gathered by minute and series, then by the cells of every cube and granularity.

What cells hold already, and which series may have one, is `analytics.rollups`'.
"""

from __future__ import annotations

from collections.abc import Iterable

from analytics.buckets import Granularity
from analytics.cells import Gathered
from analytics.dimensions import DIMENSIONS
from analytics.facts import Fact, Prices
from analytics.ports import Group

__all__ = ["CellKey", "Pending", "Tally"]

CellKey = tuple[Group, int]
"""A bucket of a cube, and the id of a series in it."""

_PRINCIPAL = DIMENSIONS.index("principal")
_MINUTE_S = Granularity.MINUTE.seconds


class Pending:
    """Facts that have been gathered and not kept yet, by minute and series.

    Args:
        prices: what calls cost.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self.cells: dict[tuple[int, str, tuple[str, ...]], Gathered] = {}
        self.facts = 0

    def add(self, facts: Iterable[Fact]) -> None:
        """Count facts."""
        for fact in facts:
            key = (fact.start_s - fact.start_s % _MINUTE_S, fact.tenant, fact.series)
            gathered = self.cells.get(key)
            if gathered is None:
                gathered = self.cells[key] = Gathered()
            gathered.add(fact, fact.series[_PRINCIPAL], self._prices.cost_nanos(fact))
            self.facts += 1


class Tally:
    """What a batch adds to cells. What only one adds to stands there itself, unchanged; else a cell has its own sum."""

    def __init__(self) -> None:
        self.cells: dict[CellKey, Gathered] = {}
        self._own: set[CellKey] = set()

    def count(self, key: CellKey, gathered: Gathered) -> None:
        """Add what was gathered to a cell."""
        there = self.cells.get(key)
        if there is None:
            self.cells[key] = gathered
            return
        if key not in self._own:
            self._own.add(key)
            both = self.cells[key] = Gathered()
            both.merge(there)
            there = both
        there.merge(gathered)

    def coarser(self, granularity: Granularity) -> Tally:
        """The same in longer buckets."""
        found = Tally()
        longer: dict[Group, Group] = {}
        for (group, series_id), gathered in self.cells.items():
            into = longer.get(group)
            if into is None:
                bucket = granularity.floor(group.bucket)
                into = longer[group] = Group(granularity.value, group.tenant, group.cube, bucket)
            found.count((into, series_id), gathered)
        return found
