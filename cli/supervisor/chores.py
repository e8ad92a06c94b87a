"""What the supervisor does again and again.

It goes by the wall clock, because certificates and tokens end by it, also while a laptop sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["repeat"]

_LONGEST_PAUSE_S = 30.0


async def repeat(
    what: str,
    every_s: float,
    work: Callable[[], Awaitable[None]],
    say: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> None:
    """Do the work, first after `every_s` and then again, until cancelled; what fails is tried again soon.

    Args:
        what: it looks after.
        every_s: seconds between two times.
        work: has just been done once.
        say: told when it fails, and when it succeeds after that.
        now: the wall clock, in seconds.
    """
    pause_s = min(_LONGEST_PAUSE_S, every_s / 10)
    done, failing = now(), False
    while True:
        await asyncio.sleep(pause_s)
        if 0 <= now() - done < every_s:  # below 0 the clock was set back, and nothing is known of the age
            continue
        try:
            await work()
        except Exception as error:  # noqa: BLE001 -- a full disk, a dead service: the chore outlives whatever it is
            if not failing:
                say(f"{what}: cannot be looked after, trying again: {' '.join(str(error).split())[:300]}")
            failing = True
            continue
        if failing:
            say(f"{what}: looked after again")
        done, failing = now(), False
