"""The waiting of one run: steps that wait do so in memory while others are at work, or only for a moment; once all
that is left of the run waits, it is put aside and holds nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

__all__ = ["HOLD_S", "PutAsideError", "Waits", "now_utc"]

HOLD_S = 1.0
"""Waiting that ends so soon is not worth putting the run aside; orchestrators look for due runs more often."""
_LOOK_AGAIN_S = 0.5

T = TypeVar("T")


class PutAsideError(Exception):
    """All that is left of the run waits."""


def now_utc() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class _Waiter:
    """A step that waits."""

    __slots__ = ("asleep", "due", "for_input", "nudged")

    def __init__(self, due: datetime | None, *, for_input: bool) -> None:
        self.due = due
        self.for_input = for_input
        self.asleep = False
        self.nudged = asyncio.Event()


class Waits:
    """Knows which steps of a run are at work and which wait.

    Args:
        clock: the wall clock.

    Attributes:
        put_aside: true once all that is left of the run waits.
    """

    def __init__(self, clock: Callable[[], datetime] = now_utc) -> None:
        self.clock = clock
        self.put_aside = False
        self._at_work = 1
        self._waiters: list[_Waiter] = []
        self._left_due: datetime | None = None
        self._left_for_input = False

    @property
    def state(self) -> str:
        """The state of a run that was put aside."""
        return "WAITING_INPUT" if self._left_for_input else "WAITING"

    @property
    def due(self) -> datetime | None:
        """When a run that was put aside goes on by itself; None for never."""
        return self._left_due

    def split(self, branches: int) -> None:
        """One step becomes so many branches at work."""
        self._at_work += branches - 1

    def leave(self) -> None:
        """A branch has ended while others of its fork have not."""
        self._at_work -= 1
        if not self._at_work:
            self.nudge()

    def nudge(self) -> None:
        """Let every step that waits look again at once; until it has looked it counts as at work."""
        for waiter in self._waiters:
            if waiter.asleep:
                waiter.asleep = False
                self._at_work += 1
            waiter.nudged.set()

    async def until(
        self,
        due: datetime | None,
        check: Callable[[], None],
        look: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T | None:
        """Wait until a moment, or until `look` finds something; returns what it found.

        Args:
            due: the moment; None for never.
            check: raises what ends the waiting from outside.
            look: finds what is waited for besides.

        Raises:
            PutAsideError: nothing else of the run is at work, and the moment is not near.
        """
        waiter = _Waiter(due, for_input=look is not None)
        self._waiters.append(waiter)
        try:
            while True:
                waiter.nudged.clear()
                check()
                if self.put_aside:
                    raise PutAsideError
                found = await look() if look is not None else None
                if found is not None or (due is not None and self.clock() >= due):
                    return found
                await self._sleep(waiter)
        finally:
            if waiter.asleep:  # ended from outside
                self._at_work += 1
            self._waiters.remove(waiter)

    async def _sleep(self, waiter: _Waiter) -> None:
        """Sleep until nudged, until it is due, or until it is time to look again."""
        if waiter.nudged.is_set():  # while it looked
            return
        waiter.asleep = True
        self._at_work -= 1
        if not self._at_work and self._is_far():
            self._left_due = min((each.due for each in self._waiters if each.due is not None), default=None)
            self._left_for_input = any(each.for_input for each in self._waiters)
            self.put_aside = True
            self.nudge()
            return
        pauses = [_LOOK_AGAIN_S] if waiter.for_input else []
        if waiter.due is not None:
            pauses.append(max(0.0, (waiter.due - self.clock()).total_seconds()))
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pauses, default=None)):
                await waiter.nudged.wait()
        if waiter.asleep:
            waiter.asleep = False
            self._at_work += 1

    def _is_far(self) -> bool:
        """Whether nothing that is waited for is due in a moment."""
        now = self.clock()
        return all(each.due is None or (each.due - now).total_seconds() > HOLD_S for each in self._waiters)
