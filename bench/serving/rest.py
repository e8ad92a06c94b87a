"""Waits until the machine is at rest: what one load leaves to be done shall not count against the next."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["rested"]

_BUSY = 0.15
"""At rest no more of the cores' time is used; servers that idle use some."""
_LOOK_S = 0.2
_QUIET = 6
"""So many looks in a row must find it so: what gathers for up to a second comes after a pause."""
_LONGEST_S = 8.0


def rested() -> float:
    """Wait for it; returns how many seconds after the load the machine was still busy, eight at most."""
    began, before = time.monotonic(), _used()
    busy_s, quiet = 0.0, 0
    while quiet < _QUIET and busy_s < _LONGEST_S:
        time.sleep(_LOOK_S)
        now = _used()
        if now[0] - before[0] > _BUSY * (now[1] - before[1]):
            busy_s, quiet = time.monotonic() - began, 0
        else:
            quiet += 1
        before = now
    return busy_s


def _used() -> tuple[int, int]:
    """Of all cores together, ticks that were used, and all ticks (proc(5), `/proc/stat`)."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)
