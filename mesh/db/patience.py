"""Doing something again on a database that has gone away for a moment, or in which others were in the way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from mesh.db.faults import Fault, fault_of, said

__all__ = ["Patience"]

T = TypeVar("T")

_LOST_S = 3.0
"""How long after the first sign that a database is gone its return is waited for; PostgreSQL restarts in less."""
_CONFLICTS = 20
_CONFLICTS_S = 10.0
"""Conflicts are worth so many tries in so much time: those that end by a timeout take long each."""
_FIRST_PAUSE_S = 0.02
_MAX_PAUSE_S = 0.5


class Patience:
    """Knows whether the database answers, for all threads that speak to it.

    While it does not, each piece of work is tried for what is left of three seconds, and once after that: callers hear
    soon that nothing works, and the first who comes after its return finds it.
    """

    def __init__(self) -> None:
        self._lost_since: float | None = None
        self._lock = threading.Lock()
        self._log = structlog.get_logger("mesh.db")

    def over(self, work: Callable[[], T]) -> T:
        """Do the work until it succeeds or fails for a reason that does not pass.

        `work` must have kept nothing when it raises a `DBAPIError`.
        """
        conflicts, pause_s, first, began = 0, _FIRST_PAUSE_S, True, time.monotonic()
        while True:
            try:
                result = work()
            except DBAPIError as error:
                fault = fault_of(error)
                in_time = conflicts < _CONFLICTS and time.monotonic() - began < _CONFLICTS_S
                if fault is Fault.CONFLICT and in_time:
                    conflicts += 1
                elif fault is Fault.LOST and self._may_return(error):
                    if first:  # a connection from the pool that a restart has ended: a new one may do
                        first = False
                        continue
                else:
                    raise
            else:
                self._answers()
                return result
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter is no secret
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)

    def _may_return(self, error: DBAPIError) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._lost_since is None:
                self._lost_since = now
                self._log.warning("database lost", error=said(error)[:300])
            return now - self._lost_since < _LOST_S

    def _answers(self) -> None:
        if self._lost_since is None:
            return
        with self._lock:
            since, self._lost_since = self._lost_since, None
        if since is not None:
            self._log.info("database answers again", after_s=round(time.monotonic() - since, 1))
