"""Requests of several owners in lanes of their own: whose is the next one, and who goes with it.

What may wait, and when a batch is cut, is decided in `engine.scheduler.queue`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any, Generic, TypeVar

__all__ = ["FEW", "Batch", "Group", "Held", "Lanes", "Purse", "W", "Waiters", "Waiting"]


FEW = 64
"""What so few owners, or keys, leave behind is kept: they come back."""
_LEADS = 8
"""An owner may be ahead of the next one by so small a part of a batch: to change owners costs more than to go on."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue.

    Attributes:
        rows: how many it has.
        key: only requests of equal keys share a batch.
        owner: whose it is; empty for nobody's.
        level: its priority, from 0, the most urgent.
        since: when it came.
        length: how long it is along the axis that is padded; 0 where nothing is.
        size: how many bytes it keeps in memory.
        waits: whether it is in the queue.
        purse: of its owner at its level.
        group: what it waits with; gone once it was taken out.
    """

    rows: int
    key: Hashable
    owner: str
    level: int
    since: float
    length: int
    size: int
    waits: bool = field(default=False, init=False)
    purse: Purse = field(init=False)
    group: Group[Any] = field(init=False)


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True, eq=False)
class Held:
    """How much of an owner waits, at all levels."""

    requests: int = 0
    size: int = 0


@dataclass(slots=True, eq=False)
class Purse:
    """What an owner has had at one level, in rows, and how many of its requests wait there.

    Attributes:
        held: what waits of it at all levels, while anything does; None for nobody's.
    """

    owner: str
    number: int
    spent: float
    waiting: int = 0
    held: Held | None = None


@dataclass(slots=True)
class Batch(Generic[W]):
    """A batch that is being filled.

    Attributes:
        limit: the most rows.
        max_padded: the most places; 0 for no bound.
        members: what is in it.
        rows: of all of them.
        width: the longest of them.
        refused: whether anything did not fit.
        until: what came later stays, for the sake of others that have waited longer.
        places: with more of them the batch would keep those others waiting for too long.
    """

    limit: int
    max_padded: int
    members: list[W] = field(default_factory=list)
    rows: int = 0
    width: int = 0
    refused: bool = False
    until: float = math.inf
    places: float = math.inf

    def fits(self, waiting: W) -> bool:
        """Whether there is room for one more request, and it is its turn."""
        rows = self.rows + waiting.rows
        places = rows * max(self.width, waiting.length)
        if waiting.since > self.until or places > self.places:
            return False
        if rows <= self.limit and (not self.max_padded or places <= self.max_padded):
            return True
        self.refused = True
        return False

    def add(self, waiting: W) -> None:
        """Put a request in, at its owner's cost; it waits no more."""
        waiting.waits = False
        self.members.append(waiting)
        self.rows += waiting.rows
        waiting.purse.spent += waiting.rows
        self.width = max(self.width, waiting.length)


class Lanes(Generic[W]):
    """Requests of several owners, a lane each; the first is the oldest of whoever has spent least.

    What was taken out elsewhere is dropped when it comes up; an owner that has spent more is put in its place then.
    """

    __slots__ = ("_lanes", "_order", "_tidy_at")

    def __init__(self) -> None:
        self._lanes: dict[Purse, deque[W]] = {}
        self._order: list[tuple[float, int, Purse]] = []  # those whose lanes are not empty
        self._tidy_at = FEW

    def append(self, waiting: W) -> None:
        """Put a request at the end of its owner's lane."""
        purse = waiting.purse
        lane = self._lanes.get(purse)
        if lane is None:
            if len(self._lanes) >= self._tidy_at:
                self._lanes = {other: each for other, each in self._lanes.items() if each}
                self._tidy_at = FEW + 2 * len(self._lanes)
            self._lanes[purse] = lane = deque()
        if not lane:
            heappush(self._order, (purse.spent, purse.number, purse))
        lane.append(waiting)

    def first(self) -> W | None:
        """The next one; None where none waits."""
        order = self._order
        while order:
            spent, number, purse = order[0]
            lane = self._lanes[purse]
            while lane and not lane[0].waits:
                lane.popleft()
            if not lane:
                heappop(order)
            elif spent < purse.spent:
                heapreplace(order, (purse.spent, number, purse))
            else:
                return lane[0]
        return None

    def heads(self) -> Iterator[W]:
        """The oldest of each owner."""
        return (head for lane in self._lanes.values() if (head := next((w for w in lane if w.waits), None)) is not None)

    def fill(self, batch: Batch[W], took: Callable[[Purse, int, int], None]) -> None:
        """Put one after another into a batch; an owner whose next one does not fit is passed over.

        Args:
            batch: to be filled.
            took: hears whose requests were taken in a row, how many, and their bytes.
        """
        passed = []
        order = self._order
        while self.first() is not None and batch.rows < batch.limit:
            _, _, purse = order[0]
            until = min((order[at][0] for at in (1, 2) if at < len(order)), default=math.inf) + batch.limit // _LEADS
            requests, size, fits = self._fill_from(purse, until, batch)
            if requests:
                took(purse, requests, size)
            if not fits:
                passed.append(heappop(order))
        for entry in passed:
            heappush(order, entry)

    def _fill_from(self, purse: Purse, until: float, batch: Batch[W]) -> tuple[int, int, bool]:
        """Put an owner's requests into a batch, one at least, until it has spent so much.

        Returns:
            How many, their bytes, and False where the next one does not fit.
        """
        lane, before, size = self._lanes[purse], len(batch.members), 0
        while lane:
            waiting = lane[0]
            if waiting.waits:
                if not batch.fits(waiting):
                    return len(batch.members) - before, size, False
                batch.add(waiting)
                size += waiting.size
            lane.popleft()
            if purse.spent >= until:
                break
        return len(batch.members) - before, size, True

    def tidy(self) -> None:
        """Let go of what does not wait any more."""
        lanes = {purse: deque(waiting for waiting in lane if waiting.waits) for purse, lane in self._lanes.items()}
        self._lanes = {purse: lane for purse, lane in lanes.items() if lane}
        self._order = [(purse.spent, purse.number, purse) for purse in self._lanes]
        heapify(self._order)


class Group(Generic[W]):
    """What may share a run without padding to speak of: requests of one key and one bucket, at all levels."""

    __slots__ = ("count", "lanes", "length", "name", "rows")

    def __init__(self, name: tuple[Hashable, int]) -> None:
        self.name = name
        self.length = 0
        self.lanes: dict[int, Lanes[W]] = {}
        self.count = 0
        self.rows = 0

    def first(self) -> W | None:
        """The most urgent; None where none waits."""
        return next((first for level in sorted(self.lanes) if (first := self.lanes[level].first()) is not None), None)


class Waiters(Generic[W]):
    """Everything that waits at one level."""

    __slots__ = ("_most", "_numbers", "_tidy_at", "clock", "count", "lanes", "purses", "served")

    def __init__(self) -> None:
        self._numbers = count()
        self._most = 0.0
        self._tidy_at = FEW
        self.clock = 0.0
        self.served = 0
        self.count = 0
        self.lanes: Lanes[W] = Lanes()
        self.purses: dict[str, Purse] = {}

    def purse(self, owner: str) -> Purse:
        """What an owner has spent, which is at least what those had to spend that were served meanwhile."""
        purse = self.purses.get(owner)
        if purse is None:
            if len(self.purses) >= self._tidy_at:
                self.purses = {
                    name: each for name, each in self.purses.items() if each.waiting or each.spent > self.clock
                }
                self._tidy_at = FEW + 2 * len(self.purses)
            purse = self.purses[owner] = Purse(owner, next(self._numbers), self.clock)
        elif not purse.waiting and purse.spent < self.clock:
            purse.spent = self.clock
        return purse

    def left(self, purse: Purse, requests: int) -> None:
        """Requests of an owner wait no more; where nobody waits, nobody owes anything."""
        purse.waiting -= requests
        self.count -= requests
        self._most = max(self._most, purse.spent)
        if not self.count:
            self.clock = self._most
