"""What waits for a model, and what goes into its next run. It is told the time, and knows no threads.

A cut begins with one request, the head, and takes in what may share its run. Whose turn it is:

- The most urgent level comes first. Of ten cuts in a row that less urgent ones wait through, the last is theirs; so
  urgent work has nine tenths of a busy model at least, and nobody waits for ever.
- Within a level, the owner comes first that has had the fewest rows, and its requests in the order in which they came.
  An owner that had nothing waiting begins where the others are: it gains nothing by having been away. This is fair
  queueing by virtual time (Demers, Keshav and Shenker 1989), as the scheduler of Linux has it for processes.
- What shares the head's key goes with it, owner by owner in the same order; what room is left goes to other levels.

No step looks at all that waits: every request is put in, taken out and passed over once each.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic

from engine.scheduler.lanes import FEW, Batch, Group, Lanes, Purse, W, Waiters
from engine.scheduler.observer import Dispatch
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.room import Room

__all__ = ["Cut", "RequestQueue"]

_PATIENCE = 10
"""One cut of so many in a row is for less urgent requests that wait."""
_OVERTAKEN = 1 / 6
"""By how much of the time that a batch's head has waited others may be overtaken by who comes after them."""
_RUNS = 12
"""A batch that others of another length wait for is no longer than so many times what a run costs by itself."""
_DEAD = 256
"""So many more requests that left the queue than are in it may be left over in its lanes."""


@dataclass(frozen=True, slots=True)
class Cut(Generic[W]):
    """A batch: its members, and why it was cut."""

    members: list[W]
    reason: Dispatch


class RequestQueue(Generic[W]):
    """What waits for one model.

    Args:
        policy: how much may wait, and how batches are cut.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._room = Room(policy)
        self._delay_s = policy.max_delay_s
        self._levels: list[Waiters[W]] = [Waiters() for _ in policy.levels]
        self._groups: dict[tuple[Hashable, int], Group[W]] = {}
        self._arrived: deque[W] = deque()
        self._full: dict[Group[W], None] = {}
        self._tidy_at = FEW
        self._reason: Dispatch = "idle"
        self._left = 0
        self._cuts = 0
        self._passed_over = 0

    def __len__(self) -> int:
        return self._room.count

    def oldest(self) -> W | None:
        """What has waited longest; None where nothing waits."""
        if self._delay_s:
            return self._first_arrived()
        heads = (head for level in self._levels for head in level.lanes.heads())
        return min(heads, key=lambda head: head.since, default=None)

    def put(self, waiting: W) -> None:
        """Take a request in.

        Raises:
            QueueFullError: there is no place for it; when there will be is not known here.
        """
        level, length = self._levels[waiting.level], waiting.length
        purse = level.purses.get(waiting.owner)
        if purse is None or not purse.waiting:
            purse = level.purse(waiting.owner)
        self._room.enter(purse, waiting.size, waiting.level, level.count)
        name = (waiting.key, self._policy.bucket_of(length) if length else 0)
        group = self._groups.get(name)
        if group is None:
            group = self._opened(name)
        lanes = group.lanes.get(waiting.level)
        if lanes is None:
            group.lanes[waiting.level] = lanes = Lanes()
        waiting.purse, waiting.group, waiting.waits = purse, group, True
        lanes.append(waiting)
        level.lanes.append(waiting)
        purse.waiting += 1
        level.count += 1
        group.count += 1
        group.rows += waiting.rows
        if length:
            group.length = max(group.length, length)
        if self._delay_s:
            self._arrived.append(waiting)
            if self._is_enough(group):
                self._full[group] = None

    def remove(self, waiting: W) -> bool:
        """Take a request out, whose caller has gone or whose time is over; False where it does not wait any more."""
        if not waiting.waits:
            return False
        self._take_out(waiting)
        self._left += 1
        if self._left > self._room.count + _DEAD:
            self._tidy()
        return True

    def clear(self) -> list[W]:
        """Take everything out."""
        left = []
        for level in self._levels:
            while (waiting := level.lanes.first()) is not None:
                self._take_out(waiting)
                left.append(waiting)
        return left

    def close(self) -> None:
        """Wait for nothing any more: what is here goes as soon as it can."""
        if self._delay_s:
            self._reason = "closing"
        self._delay_s = 0.0

    def wait_s(self, now: float) -> float | None:
        """How long to wait until something can be cut, 0 for not at all; None where nothing waits."""
        if not self._room.count:
            return None
        if not self._delay_s or self._ready(now) is not None:
            return 0.0
        oldest = self._first_arrived()
        return max(0.0, oldest.since + self._delay_s - now) if oldest is not None else None

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return sum(group.rows for group in self._groups.values())

    def cut(self, now: float, most_rows: int = 0) -> Cut[W] | None:
        """Take out what goes into the next run; None where nothing waits, or something is still waited for.

        Args:
            now: seconds of the clock that requests are stamped with.
            most_rows: as many may go together where nobody set another limit; 0 for as many as the policy says.
        """
        head = self._ready(now) if self._delay_s else self._next()
        if head is None:
            return None
        self._count_turn(head)
        limit, reason = self._policy.max_rows, self._reason
        if self._delay_s:
            limit, reason = self._limit(head, now)
        if self._room.count == 1:
            return self._alone(head, reason)
        if most_rows and limit == self._policy.max_rows:
            limit = min(limit, most_rows)
        return self._filled(head, limit, reason, now if most_rows else None)

    def _ready(self, now: float) -> W | None:
        """The request that the next cut begins with, where others are waited for."""
        head = self._next()
        if head is None or self._is_ready(head, now):
            return head
        oldest = self._first_arrived()
        if oldest is not None and now - oldest.since >= self._delay_s:
            return oldest
        full = next(iter(self._full), None)
        return full.first() if full is not None else None

    def _is_ready(self, head: W, now: float) -> bool:
        return head.group in self._full or now - head.since >= self._delay_s

    def _next(self) -> W | None:
        """Whose turn it is: the head of the most urgent level, or of the one that was passed over for too long."""
        if len(self._levels) == 1:
            return self._levels[0].lanes.first()
        waiting = [level for level in self._levels if level.count]
        if not waiting:
            return None
        if len(waiting) > 1 and self._passed_over >= _PATIENCE - 1:
            return min(waiting[1:], key=lambda level: level.served).lanes.first()
        return waiting[0].lanes.first()

    def _count_turn(self, head: W) -> None:
        """A cut begins with this one: others were passed over, or it is their turn that was taken."""
        self._cuts += 1
        level = self._levels[head.level]
        level.served = self._cuts
        level.clock = max(level.clock, head.purse.spent)
        if level.count == self._room.count:
            self._passed_over = 0
            return
        others = any(other.count for other in self._levels[head.level + 1 :])
        urgent = not any(other.count for other in self._levels[: head.level])
        self._passed_over = self._passed_over + 1 if others and urgent else 0

    def _limit(self, head: W, now: float) -> tuple[int, Dispatch]:
        """How many rows a batch that was waited for may have, and why it is cut, should all of them come together."""
        policy, rows = self._policy, head.group.rows
        if now - head.since >= self._delay_s:
            return policy.max_rows, "delay"
        preferred = [size for size in policy.preferred_rows if size <= rows]
        return (preferred[-1], "preferred") if preferred else (policy.max_rows, "full")

    def _filled(self, head: W, limit: int, reason: Dispatch, beside: float | None) -> Cut[W]:
        """The batch: its head, all of its group that fit, and of like groups those that are not worth a run.

        `beside`: the time, where it is computed beside another one: then few overtake others of another length.
        """
        batch: Batch[W] = Batch(limit, self._policy.max_padded)
        alike = self._alike(head.group, batch)
        batch.add(head)
        self._took(head.level, head.purse, 1, head.size)
        self._shrank(head.group, 1, head.rows)
        if beside is not None:
            self._hold_back(head, batch, beside)
        for group in alike:
            for level in sorted(group.lanes, key=lambda level: (level != head.level, level)):
                before, rows = len(batch.members), batch.rows
                group.lanes[level].fill(batch, partial(self._took, level))
                self._shrank(group, len(batch.members) - before, batch.rows - rows)
        for waiters in self._levels:
            waiters.lanes.first()  # what was taken is let go of
        refused = batch.refused and reason != "preferred" and limit == self._policy.max_rows
        full = batch.rows >= self._policy.max_rows or refused
        return Cut(batch.members, "full" if full else reason)

    def _hold_back(self, head: W, batch: Batch[W], now: float) -> None:
        """Put in those whose turn it is next; of the rest few, and none who came much later than who is passed over."""
        lanes = self._levels[head.level].lanes
        while (following := lanes.first()) is not None and following.group is head.group and batch.fits(following):
            batch.add(following)
            self._took(head.level, following.purse, 1, following.size)
            self._shrank(following.group, 1, following.rows)
        if following is not None and following.group is not head.group:
            batch.until = following.since + _OVERTAKEN * (now - head.since)
            batch.places = _RUNS * self._policy.run_places or math.inf

    def _alone(self, head: W, reason: Dispatch) -> Cut[W]:
        """The batch where nothing else waits."""
        head.waits = False
        head.purse.spent += head.rows
        self._took(head.level, head.purse, 1, head.size)
        self._shrank(head.group, 1, head.rows)
        head.group.lanes[head.level].first()  # what was taken is let go of
        self._levels[head.level].lanes.first()
        return Cut([head], "full" if head.rows >= self._policy.max_rows else reason)

    def _alike(self, group: Group[W], batch: Batch[W]) -> Iterator[Group[W]]:
        """The group, then those of lengths next to it whose padding costs no more than the run that it saves."""
        yield group
        if not batch.width:
            return
        key, bucket = group.name
        bounds, costs = self._policy.buckets, self._policy.run_places
        for other in range(bucket - 1, -1, -1):
            if batch.width - bounds[other] > costs:
                break
            near = self._groups.get((key, other))
            if near is not None and near.count and (batch.width - near.length) * near.rows <= costs:
                yield near
        for other in range(bucket + 1, len(bounds) + 1):
            if (bounds[other - 1] - batch.width) * batch.rows > costs:
                break
            near = self._groups.get((key, other))
            if near is not None and near.count and (near.length - batch.width) * batch.rows <= costs:
                yield near

    def _opened(self, name: tuple[Hashable, int]) -> Group[W]:
        """A group of requests that is new; those that are empty go when they are too many."""
        if len(self._groups) >= self._tidy_at:
            self._groups = {other: group for other, group in self._groups.items() if group.count}
            self._tidy_at = FEW + 2 * len(self._groups)
        group: Group[W] = Group(name)
        self._groups[name] = group
        return group

    def _took(self, level: int, purse: Purse, requests: int, size: int) -> None:
        """Requests of an owner wait no more; where they lie they are dropped when they come up."""
        self._levels[level].left(purse, requests)
        self._room.leave(purse, requests, size)

    def _shrank(self, group: Group[W], requests: int, rows: int) -> None:
        """Requests of a group wait no more."""
        group.count -= requests
        group.rows -= rows
        if not group.count:
            group.length = 0
        if self._full and not self._is_enough(group):
            self._full.pop(group, None)

    def _take_out(self, waiting: W) -> None:
        waiting.waits = False
        self._took(waiting.level, waiting.purse, 1, waiting.size)
        self._shrank(waiting.group, 1, waiting.rows)
        del waiting.group

    def _first_arrived(self) -> W | None:
        arrived = self._arrived
        while arrived and not arrived[0].waits:
            arrived.popleft()
        return arrived[0] if arrived else None

    def _is_enough(self, group: Group[W]) -> bool:
        """Whether nothing more is waited for."""
        policy = self._policy
        enough = policy.preferred_rows[0] if policy.preferred_rows else policy.max_rows
        return group.rows >= enough or 0 < policy.max_padded <= group.rows * group.length

    def _tidy(self) -> None:
        """Let go of requests that left, all of them at once."""
        self._left = 0
        self._arrived = deque(waiting for waiting in self._arrived if waiting.waits)
        for level in self._levels:
            level.lanes.tidy()
        for group in self._groups.values():
            for lanes in group.lanes.values():
                lanes.tidy()
