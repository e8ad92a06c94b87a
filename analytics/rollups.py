"""Counting: facts become cells, and a batch's cells are kept together with how far the records have been read.

Both commit or neither, and only if nobody else has moved the cursor meanwhile: a batch that is tried again after a
crash is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analytics.buckets import Granularity
from analytics.cells import Cell, Gathered
from analytics.dimensions import CUBES, DIMENSIONS, OTHER, places_of
from analytics.errors import CursorMovedError
from analytics.facts import Fact, Prices
from analytics.ports import Group, RollupRows
from mesh.db import Transaction

__all__ = ["Limits", "Pending", "Rollups"]

_PRINCIPAL = DIMENSIONS.index("principal")
_MINUTE_S = Granularity.MINUTE.seconds
_MAX_OPEN = 4_000
"""Cells that are remembered between batches: those of the open buckets of some fifty tenants."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many series are kept apart.

    Attributes:
        a_bucket: in one bucket of a tenant's cube; the smallest beyond it become `other`.
    """

    a_bucket: int = 500

    @property
    def a_cube(self) -> int:
        """At most so many series that a tenant's cube remembers; new ones beyond it are `other` from the start."""
        return self.a_bucket * 10


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


class Rollups:
    """Keeps rollups.

    Args:
        rows: the statements.
        limits: how many series are kept apart.
    """

    def __init__(self, rows: RollupRows, limits: Limits) -> None:
        self._rows = rows
        self._limits = limits
        self._places = {cube: places_of(cube) for cube in CUBES}
        self._forget()

    def _forget(self) -> None:
        """Forget what was remembered of the database."""
        self._ids: dict[tuple[str, str, tuple[str, ...]], tuple[int, int]] = {}
        self._open: dict[tuple[Group, int], Cell] = {}
        self._sizes: dict[Group, int] = {}

    def keep(self, transaction: Transaction, pending: Pending, before: int, after: int) -> None:
        """Add what is pending to what is kept, and move the cursor.

        Raises:
            CursorMovedError: the cursor does not stand at `before`.
        """
        try:
            self._move(transaction, before, after)
            touched = self._spread(transaction, pending)
            self._rows.put(transaction, ((*key, self._open[key]) for key in touched))
            for group in {group for group, _ in touched}:
                if self._sizes[group] > 2 * self._limits.a_bucket:
                    self._fold(transaction, group)
        except BaseException:
            self._forget()  # what is remembered has counted what will not be kept
            raise
        if len(self._open) > _MAX_OPEN or len(self._ids) > 4 * _MAX_OPEN:
            self._forget()

    def lost(self) -> None:
        """Hear that a transaction was not kept after all."""
        self._forget()

    def _move(self, transaction: Transaction, before: int, after: int) -> None:
        if not self._rows.move(transaction, before, after):
            raise CursorMovedError(f"records after {before} have been counted by somebody else")

    def _spread(self, transaction: Transaction, pending: Pending) -> set[tuple[Group, int]]:
        """Add what is pending to every cube at every granularity; returns which cells have changed."""
        targets: dict[tuple[Group, int], list[Gathered]] = {}
        for (minute, tenant, series), gathered in pending.cells.items():
            for cube, places in self._places.items():
                series_id = self._series_id(transaction, tenant, cube, series, places, minute)
                for granularity in Granularity:
                    group = Group(granularity.value, tenant, cube, granularity.floor(minute))
                    targets.setdefault((group, series_id), []).append(gathered)
        self._load(transaction, targets.keys())
        for key, more in targets.items():
            cell = self._open[key]
            for gathered in more:
                cell.add(gathered)
        return set(targets)

    def _series_id(
        self, transaction: Transaction, tenant: str, cube: str, series: tuple[str, ...], places: tuple[int, ...],
        minute: int,
    ) -> int:  # fmt: skip
        """The id of a series in a cube, or of `other` where there are too many."""
        values = tuple(value if at in places else "" for at, value in enumerate(series))
        day = Granularity.DAY.floor(minute)
        known = self._ids.get((tenant, cube, values))
        if known is None or known[1] < day:  # one that was not used today may have been forgotten meanwhile
            found = self._rows.series_id(transaction, tenant, cube, values, self._limits.a_cube, day)
            if found is None:
                return self._other(transaction, tenant, cube, day)
            self._rows.touch(transaction, [found], day)
            known = self._ids[tenant, cube, values] = (found, day)
        return known[0]

    def _other(self, transaction: Transaction, tenant: str, cube: str, day: int) -> int:
        """The id of the series of what is not kept apart."""
        values = tuple(OTHER if at in self._places[cube] else "" for at in range(len(DIMENSIONS)))
        series_id = self._rows.series_id(transaction, tenant, cube, values, 2 * self._limits.a_cube, day)
        if series_id is None:
            raise AssertionError("there is always room for one more than the limit")
        self._rows.touch(transaction, [series_id], day)
        return series_id

    def _load(self, transaction: Transaction, keys: Iterable[tuple[Group, int]]) -> None:
        """Remember cells: as they are kept, or new."""
        missing: dict[Group, list[int]] = {}
        for group, series_id in keys:
            if (group, series_id) not in self._open:
                missing.setdefault(group, []).append(series_id)
        for group, series_ids in missing.items():
            if group not in self._sizes:
                self._sizes[group] = self._rows.count(transaction, group)
            kept = self._rows.cells(transaction, group, series_ids) if self._sizes[group] else {}
            for series_id in series_ids:
                self._open[group, series_id] = kept.get(series_id) or Cell()
            self._sizes[group] += len(series_ids) - len(kept)

    def _fold(self, transaction: Transaction, group: Group) -> None:
        """Put the smallest series of a bucket into `other`, so that the limit holds again."""
        other = self._other(transaction, group.tenant, group.cube, Granularity.DAY.floor(group.bucket))
        number = self._rows.count(transaction, group) - self._limits.a_bucket
        small = self._rows.smallest(transaction, group, number, other)
        self._load(transaction, [(group, other)])
        into = self._open[group, other]
        for cell in self._rows.cells(transaction, group, small).values():
            into.merge(cell)
        self._rows.drop(transaction, group, small)
        self._rows.put(transaction, [(group, other, into)])
        for series_id in small:
            self._open.pop((group, series_id), None)
        self._sizes[group] = self._rows.count(transaction, group)
