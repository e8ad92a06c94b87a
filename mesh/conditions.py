"""When and where a binding holds: its conditions, compiled to a function that also says until when its answer is good.

What follows from a binding that holds is `mesh.policy`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from math import inf
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mesh.snapshot import Binding, TimeWindow

__all__ = ["Holds", "holds_when", "known_time_zone", "why_not"]

Holds = Callable[[float], tuple[bool, float]]
"""Whether something holds at a time (seconds since the epoch), and the time at which that may change."""


def holds_when(binding: Binding) -> Holds | None:
    """Compile the times at which a binding holds; None where it always does."""
    start, expire = binding.start, binding.expire or inf
    windows = tuple(map(_Window, binding.condition.time_windows)) if binding.condition else ()
    if not start and expire == inf and not windows:
        return None

    def holds(now: float) -> tuple[bool, float]:
        if now >= expire:
            return False, inf
        if now < start:
            return False, start
        if not windows:
            return True, expire
        states = [window.at(now) for window in windows]
        return any(inside for inside, _ in states), min(expire, *(until for _, until in states))

    return holds


def why_not(binding: Binding, now: float) -> str:
    """Why a binding does not hold at a time, for people; empty where it does."""
    if binding.expire and now >= binding.expire:
        return f"expired at {_shown(binding.expire)}"
    if now < binding.start:
        return f"holds from {_shown(binding.start)} on"
    holds = holds_when(binding)
    return "" if holds is None or holds(now)[0] else "holds at other times of the day or week"


def known_time_zone(name: str) -> bool:
    """Whether a time zone is in the database."""
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


class _Window:
    """A window of time; what it last found is good until the window opens or closes."""

    __slots__ = ("_days", "_end", "_inside", "_next_day", "_since", "_start", "_until", "_zone")

    def __init__(self, window: TimeWindow) -> None:
        self._zone = ZoneInfo(window.time_zone or "UTC")
        self._days = frozenset(window.days) or frozenset(range(1, 8))
        self._start = time.fromisoformat(window.start or "00:00")
        whole = window.end in ("", "24:00")
        self._end = time() if whole else time.fromisoformat(window.end)
        self._next_day = self._end <= self._start
        self._since = self._until = 0.0
        self._inside = False

    def at(self, now: float) -> tuple[bool, float]:
        """Whether the time lies inside, and when that may change."""
        if not self._since <= now < self._until:
            self._look(now)
        return self._inside, self._until

    def _look(self, now: float) -> None:
        today = datetime.fromtimestamp(now, self._zone).date()
        inside, until = False, now + 86_400.0
        for offset in range(-1, 3):
            day = today + timedelta(days=offset)
            if day.isoweekday() not in self._days:
                continue
            begin = datetime.combine(day, self._start, self._zone).astimezone(UTC).timestamp()
            last = day + timedelta(days=self._next_day)
            end = datetime.combine(last, self._end, self._zone).astimezone(UTC).timestamp()
            inside = inside or begin <= now < end
            until = min((until, *(moment for moment in (begin, end) if moment > now)))
        self._since, self._until, self._inside = now, until, inside


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
