"""One budget of cores for all runs of the process: models that are busy together take turns at them.

A run on all cores waits at every step for the slowest of them. Where two such runs share the cores, each waits for the
other all the time, and both take longer than one after the other. So a run begins when a core is free. Who comes next:
the model that has used the least, in core seconds; one that was idle begins where the others are.

Nobody waits for long: a run that takes more than a slice gives its cores up, on paper, and from then on shares them
with whoever comes. A model that computes for 30 s stops no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["CoreBudget", "Share"]

_SLICE_S = 0.1
"""For so long a run has its cores to itself, and so long nobody waits for more than one of them."""


@dataclass(slots=True, eq=False)
class _Loan:
    """Cores of a run under way."""

    cores: int
    began: float


class CoreBudget:
    """The cores of this process.

    Args:
        cores: how many there are.
        clock: gives seconds.
    """

    def __init__(self, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cores = cores
        self._clock = clock
        self._changed = threading.Condition()
        self._loans: dict[int, _Loan] = {}
        self._waiting: list[Share] = []
        self._least_s = 0.0

    def share(self) -> Share:
        """What one model uses of it."""
        return Share(self)

    @contextmanager
    def hold(self, share: Share, cores: int) -> Iterator[None]:
        """Have cores up to the end of the block; blocks until one is free, or for a slice.

        A thread that has some already gets no more.
        """
        me = threading.get_ident()
        if me in self._loans or not cores:
            yield
            return
        with self._changed:
            self._await(share)
            loan = self._loans[me] = _Loan(min(cores, self._cores), self._clock())
        try:
            yield
        finally:
            with self._changed:
                del self._loans[me]
                share.used_s += loan.cores * (self._clock() - loan.began)
                self._changed.notify_all()

    def _await(self, share: Share) -> None:
        """Wait until it is a model's turn and a core is free, but for a slice at most."""
        now = self._clock()
        share.used_s = max(share.used_s, self._least_s)
        if self._waiting or self._busy(now) >= self._cores:
            ends = now + _SLICE_S
            self._waiting.append(share)
            while now < ends and (self._next() is not share or self._busy(now) >= self._cores):
                self._changed.wait(min(ends, self._soonest(now)) - now)
                now = self._clock()
            self._waiting.remove(share)
            self._changed.notify_all()
        self._least_s = max(self._least_s, share.used_s)

    def _next(self) -> Share:
        """Whose turn it is: who has used the least, of those the first to come."""
        return min(self._waiting, key=lambda share: share.used_s)

    def _busy(self, now: float) -> int:
        """How many cores are lent to runs within their slice."""
        return sum(loan.cores for loan in self._loans.values() if now - loan.began < _SLICE_S)

    def _soonest(self, now: float) -> float:
        """When the first of the slices ends."""
        ends = [loan.began + _SLICE_S for loan in self._loans.values() if now - loan.began < _SLICE_S]
        return min(ends, default=now + _SLICE_S)


class Share:
    """What one model has used of the cores.

    Args:
        budget: all of them.

    Attributes:
        used_s: core seconds.
    """

    def __init__(self, budget: CoreBudget) -> None:
        self._budget = budget
        self.used_s = 0.0

    def share(self) -> Share:
        """Itself: what all sessions of a model use together."""
        return self

    @contextmanager
    def hold(self, cores: int) -> Iterator[None]:
        """Have cores up to the end of the block; none are held where none are wanted."""
        with self._budget.hold(self, cores):
            yield
