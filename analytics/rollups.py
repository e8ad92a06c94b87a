"""Counting: what is pending goes to the cells of every cube, together with how far the records have been read.

Both commit or neither, and only if nobody else has moved the cursor meanwhile: a batch that is tried again after a
crash is counted once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from analytics.buckets import Granularity
from analytics.cells import Cell
from analytics.dimensions import CUBES, DIMENSIONS, OTHER, places_of
from analytics.errors import CursorMovedError
from analytics.ports import Group, RollupRows
from analytics.tally import CellKey, Pending, Tally
from mesh.db import Transaction

__all__ = ["Limits", "Rollups"]

_MINUTE_S, _DAY_S = Granularity.MINUTE.seconds, Granularity.DAY.seconds
_MAX_OPEN = 8_000
"""Cells that are remembered between batches: those of the open buckets of some fifty tenants."""
_CLOSED_S = 60.0
"""After its smallest series were put together, a bucket takes no new ones for so long: they would come and go."""
_ALL_OTHER = (OTHER,) * len(DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many series are kept apart.

    Attributes:
        a_bucket: in one bucket of a tenant's cube. When there are twice as many, the smaller half becomes `other`.
    """

    a_bucket: int = 500

    @property
    def a_cube(self) -> int:
        """At most so many series that a tenant's cube remembers; new ones beyond it are `other` from the start."""
        return self.a_bucket * 10


@dataclass(slots=True)
class _Known:
    """A series that is kept, and the last day on which it was seen."""

    series_id: int
    last_day: int


class Rollups:
    """Keeps rollups.

    Args:
        rows: the statements.
        limits: how many series are kept apart.
        now: a clock that only goes forward, in seconds.
    """

    def __init__(self, rows: RollupRows, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._limits = limits
        self._now = now
        self._places = {cube: frozenset(places_of(cube)) for cube in CUBES}
        self._closed: dict[Group, float] = {}
        self._folded: dict[Group, float] = {}
        self._unsure = False
        self.forget()

    def forget(self) -> None:
        """Forget what is remembered of the database: it may have become something else."""
        self._series: dict[tuple[str, str], dict[tuple[str, ...], _Known]] = {}
        self._in_cubes: dict[tuple[str, tuple[str, ...]], list[_Known]] = {}
        self._open: dict[CellKey, Cell] = {}
        self._sizes: dict[Group, int] = {}

    def keep(self, transaction: Transaction, pending: Pending, before: int, after: int) -> None:
        """Add what is pending to what is kept, and move the cursor.

        Until `committed` is called, what is remembered may be of a transaction that was undone: then it is forgotten
        before anything is added to it again.

        Raises:
            CursorMovedError: the cursor does not stand at `before`.
        """
        if self._unsure:
            self.forget()
        self._unsure = True
        self._folded = {}
        if not self._rows.move(transaction, before, after):
            self._refuse(f"records after {before} have been counted by somebody else")
        minutes = self._minutes(transaction, pending)
        hours = minutes.coarser(Granularity.HOUR)
        for tally in (minutes, hours, hours.coarser(Granularity.DAY)):
            self._add(transaction, tally)
        self._forget_some()

    def committed(self) -> None:
        """Hear that what was kept last has been committed."""
        self._closed |= self._folded
        self._unsure = False

    @staticmethod
    def _refuse(why: str) -> None:
        raise CursorMovedError(why)

    def _minutes(self, transaction: Transaction, pending: Pending) -> Tally:
        """What is pending, by the minutes of every cube."""
        tally = Tally()
        groups: dict[tuple[str, int], list[Group]] = {}
        used: dict[int, set[int]] = {}
        for (minute, tenant, values), gathered in pending.cells.items():
            day = minute - minute % _DAY_S
            own = groups.get((tenant, minute))
            if own is None:
                own = [Group(Granularity.MINUTE.value, tenant, cube, minute) for cube in CUBES]
                groups[tenant, minute] = own
            for group, known in zip(own, self._series_of(transaction, tenant, values, day), strict=True):
                if known.last_day < day:
                    known.last_day = day
                    used.setdefault(day, set()).add(known.series_id)
                tally.count((group, known.series_id), gathered)
        for day, series_ids in sorted(used.items()):
            if not self._rows.touch(transaction, series_ids, day):
                self._refuse("series were used or forgotten by somebody else meanwhile")
        return tally

    def _series_of(self, transaction: Transaction, tenant: str, values: tuple[str, ...], day: int) -> list[_Known]:
        """What a combination of all dimensions belongs to in each cube."""
        found = self._in_cubes.get((tenant, values))
        if found is None:
            found = [self._known(transaction, tenant, cube, values, day) for cube in CUBES]
            self._in_cubes[tenant, values] = found
        return found

    def _known(self, transaction: Transaction, tenant: str, cube: str, values: tuple[str, ...], day: int) -> _Known:
        """A series in a cube, made where it is new; `other` where the cube has too many."""
        known = self._series.get((tenant, cube))
        if known is None:
            kept = self._rows.series(transaction, tenant, cube)
            known = self._series[tenant, cube] = {row.values: _Known(row.series_id, row.last_day) for row in kept}
        places = self._places[cube]
        own = tuple([value if at in places else "" for at, value in enumerate(values)])
        found = known.get(own)
        if found is None:
            if len(known) >= self._limits.a_cube and values is not _ALL_OTHER:
                return self._known(transaction, tenant, cube, _ALL_OTHER, day)
            found = known[own] = _Known(self._rows.add_series(transaction, tenant, cube, own, day), day)
        return found

    def _add(self, transaction: Transaction, tally: Tally) -> None:
        """Add to the cells of one granularity, and keep them."""
        self._load(transaction, tally)
        for key, gathered in tally.cells.items():
            self._open[key].add(gathered)
        self._rows.put(transaction, ((*key, self._open[key]) for key in tally.cells))
        for group in {group for group, _ in tally.cells}:
            if self._sizes[group] > 2 * self._limits.a_bucket:
                self._fold(transaction, group)

    def _load(self, transaction: Transaction, tally: Tally) -> None:
        """Remember the cells that are to be added to: as they are kept, or new."""
        missing: dict[Group, list[int]] = {}
        for key in tally.cells:
            if key not in self._open:
                missing.setdefault(key[0], []).append(key[1])
        for group, series_ids in missing.items():
            if group not in self._sizes:
                self._sizes[group] = self._rows.count(transaction, group)
            kept = self._rows.cells(transaction, group, series_ids) if self._sizes[group] else {}
            new = [series_id for series_id in series_ids if series_id not in kept]
            if new and self._is_closed(group):
                new = self._redirect(transaction, tally, group, new)
            self._open |= {(group, series_id): cell for series_id, cell in kept.items()}
            self._open |= {(group, series_id): Cell() for series_id in new}
            self._sizes[group] += len(new)

    def _is_closed(self, group: Group) -> bool:
        return self._closed.get(group, 0.0) > self._now()

    def _redirect(self, transaction: Transaction, tally: Tally, group: Group, new: list[int]) -> list[int]:
        """Let new series of a bucket that is closed count as `other`; returns what is new then."""
        other = self._other(transaction, group)
        for series_id in new:
            if series_id != other:
                tally.count((group, other), tally.cells.pop((group, series_id)))
        if (group, other) in self._open:
            return []
        kept = self._rows.cells(transaction, group, [other]).get(other)
        if kept is None:
            return [other]
        self._open[group, other] = kept
        return []

    def _other(self, transaction: Transaction, group: Group) -> int:
        """The series of what is not kept apart."""
        day = group.bucket - group.bucket % _DAY_S
        known = self._known(transaction, group.tenant, group.cube, _ALL_OTHER, day)
        if known.last_day < day:
            known.last_day = day
            self._rows.touch(transaction, [known.series_id], day)
        return known.series_id

    def _fold(self, transaction: Transaction, group: Group) -> None:
        """Put the smallest series of a bucket into `other`, so that the limit holds again."""
        other = self._other(transaction, group)
        small = self._rows.smallest(transaction, group, self._sizes[group] - self._limits.a_bucket, other)
        into = self._open.get((group, other)) or self._rows.cells(transaction, group, [other]).get(other) or Cell()
        for cell in self._rows.cells(transaction, group, small).values():
            into.merge(cell)
        self._rows.drop(transaction, group, small)
        self._rows.put(transaction, [(group, other, into)])
        for series_id in small:
            self._open.pop((group, series_id), None)
        self._open[group, other] = into
        self._sizes[group] = self._rows.count(transaction, group)
        self._folded[group] = self._now() + _CLOSED_S

    def _forget_some(self) -> None:
        """Forget what is least likely to be needed again, where too much is remembered: minutes that are over."""
        if len(self._open) > _MAX_OPEN:
            newest = max(group.bucket for group in self._sizes if group.granularity == Granularity.MINUTE.value)
            self._open = {key: cell for key, cell in self._open.items() if _stays(key[0], newest)}
            self._sizes = {group: size for group, size in self._sizes.items() if _stays(group, newest)}
        if len(self._open) > _MAX_OPEN or len(self._in_cubes) > 4 * _MAX_OPEN:
            self.forget()
        if self._closed:
            self._closed = {group: until for group, until in self._closed.items() if until > self._now()}


def _stays(group: Group, newest: int) -> bool:
    return group.granularity != Granularity.MINUTE.value or group.bucket >= newest - _MINUTE_S
