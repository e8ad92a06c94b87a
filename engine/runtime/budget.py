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
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CoreBudget", "Hold", "Share"]

_SLICE_S = 0.1
"""For so long a run has its cores to itself, and so long nobody waits for more than one of them."""


@dataclass(slots=True, eq=False)
class _Loan:
    """Cores of a run under way, and how many holds there are within the one that took them."""

    cores: int
    began: float
    within: int = 0


class CoreBudget:
    """The cores of this process.

    Args:
        cores: how many there are.
        clock: gives seconds.

    Attributes:
        loans: what each thread has of them.
    """

    def __init__(self, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cores = cores
        self._clock = clock
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.loans: dict[int, _Loan] = {}
        self._waiting: list[Share] = []
        self._least_s = 0.0

    def share(self) -> Share:
        """What one model uses of it."""
        return Share(self)

    def take(self, share: Share, cores: int) -> None:
        """Have cores until they are given back; blocks until one is free, or for a slice. The thread has none yet."""
        with self._lock:
            now = self._clock()
            share.used_s = max(share.used_s, self._least_s)
            if self._waiting or (self.loans and self._busy(now) >= self._cores):
                now = self._awaited(share, now)
            self._least_s = max(self._least_s, share.used_s)
            self.loans[threading.get_ident()] = _Loan(min(cores, self._cores), now)

    def give_back(self, share: Share) -> None:
        """Give back what the thread has."""
        with self._lock:
            loan = self.loans.pop(threading.get_ident())
            share.used_s += loan.cores * (self._clock() - loan.began)
            if self._waiting:
                self._changed.notify_all()

    def _awaited(self, share: Share, now: float) -> float:
        """When it is a model's turn and a core is free, but in a slice at most; waits until then."""
        ends = now + _SLICE_S
        self._waiting.append(share)
        while now < ends and (self._next() is not share or self._busy(now) >= self._cores):
            self._changed.wait(min(ends, self._soonest(now)) - now)
            now = self._clock()
        self._waiting.remove(share)
        self._changed.notify_all()
        return now

    def _next(self) -> Share:
        """Whose turn it is: who has used the least, of those the first to come."""
        return min(self._waiting, key=lambda share: share.used_s)

    def _busy(self, now: float) -> int:
        """How many cores are lent to runs within their slice."""
        return sum(loan.cores for loan in self.loans.values() if now - loan.began < _SLICE_S)

    def _soonest(self, now: float) -> float:
        """When the first of the slices ends."""
        ends = [loan.began + _SLICE_S for loan in self.loans.values() if now - loan.began < _SLICE_S]
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

    def hold(self, cores: int) -> Hold:
        """Have cores up to the end of a block; none are held where none are wanted."""
        return Hold(self._budget, self, cores)


class Hold:
    """Cores that are held up to the end of the block; blocks at its beginning until one is free, or for a slice.

    It may be entered as often as one likes, from several threads and within itself.

    Args:
        budget: all of them.
        share: of whose model.
        cores: how many.
    """

    __slots__ = ("_budget", "_cores", "_loans", "_share")

    def __init__(self, budget: CoreBudget, share: Share, cores: int) -> None:
        self._budget = budget
        self._loans = budget.loans
        self._share = share
        self._cores = cores

    def __enter__(self) -> None:
        loan = self._loans.get(threading.get_ident())
        if loan is not None:
            loan.within += 1
        elif self._cores:
            self._budget.take(self._share, self._cores)

    def __exit__(self, *_: object) -> None:
        loan = self._loans.get(threading.get_ident())
        if loan is not None and loan.within:
            loan.within -= 1
        elif loan is not None:
            self._budget.give_back(self._share)
