"""Places in a model's queue: how many there are, how large what waits may be, and what is kept for others."""

from __future__ import annotations

from engine.errors import QueueFullError
from engine.scheduler.lanes import Held, Purse
from engine.scheduler.policy import BatchPolicy

__all__ = ["Room"]

_OWNERS_SHARE = 8
"""An owner may have so many times what is still free: eight ninths of a queue where nobody else is."""


class Room:
    """Counts what waits.

    Args:
        policy: how much may.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._owners: dict[str, Held] = {}
        self.count = 0
        self.size = 0

    def enter(self, purse: Purse, size: int, level: int, waiting: int) -> None:
        """Take a place.

        Args:
            purse: of whoever takes it.
            size: of the request, bytes.
            level: its priority, from 0.
            waiting: how many requests wait at that level.

        Raises:
            QueueFullError: there is none; when there will be is not known here.
        """
        policy = self._policy
        places, room = policy.max_waiting - self.count, policy.max_waiting_bytes - self.size
        if places <= 0:
            raise QueueFullError(f"{self.count} requests wait for the model already; try again later")
        if size > room and self.count:
            raise QueueFullError(f"what waits for the model holds {self.size} bytes already; try again later")
        if 0 < policy.levels[level].max_waiting <= waiting:
            raise QueueFullError(
                f"{waiting} requests of priority {level + 1} wait for the model already; try again later"
            )
        if purse.owner:
            held = purse.held
            if held is None or not held.requests:
                purse.held = held = self._owners.get(purse.owner) or held or Held()
            if held.requests >= _OWNERS_SHARE * places or (held.requests and held.size + size > _OWNERS_SHARE * room):
                raise QueueFullError(
                    f"{held.requests} requests of yours wait for the model, {held.size} bytes; "
                    "the places that are left are kept for others; try again later"
                )
            if not held.requests:
                self._owners[purse.owner] = held
            held.requests += 1
            held.size += size
        self.count += 1
        self.size += size

    def leave(self, purse: Purse, requests: int, size: int) -> None:
        """Give places back."""
        self.count -= requests
        self.size -= size
        held = purse.held
        if held is not None:
            held.requests -= requests
            held.size -= size
            if not held.requests:
                del self._owners[purse.owner]
