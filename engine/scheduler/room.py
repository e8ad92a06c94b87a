"""Places in a model's queue: how many there are, how large what waits may be, and what is kept for others."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import QueueFullError
from engine.scheduler.lanes import Waiting
from engine.scheduler.policy import BatchPolicy

__all__ = ["Room"]

_OWNERS_SHARE = 8
"""An owner may have so many times what is still free: eight ninths of a queue where nobody else is."""


@dataclass(slots=True)
class _Held:
    """How much of an owner waits, at all levels."""

    requests: int = 0
    size: int = 0


class Room:
    """Counts what waits.

    Args:
        policy: how much may.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._owners: dict[str, _Held] = {}
        self._levels = [0] * len(policy.levels)
        self.count = 0
        self.size = 0

    def check(self, waiting: Waiting) -> None:
        """See that there is a place for a request.

        Raises:
            QueueFullError: there is none; when there will be is not known here.
        """
        policy = self._policy
        places = policy.max_waiting - self.count
        room = policy.max_waiting_bytes - self.size
        if places <= 0:
            raise QueueFullError(f"{self.count} requests wait for the model already; try again later")
        if waiting.size > room and self.count:
            raise QueueFullError(f"what waits for the model holds {self.size} bytes already; try again later")
        level = policy.levels[waiting.level]
        if 0 < level.max_waiting <= self._levels[waiting.level]:
            raise QueueFullError(
                f"{level.max_waiting} requests of priority {waiting.level + 1} wait for the model already; "
                "try again later"
            )
        held = self._owners.get(waiting.owner)
        if held is not None and (
            held.requests >= _OWNERS_SHARE * places or held.size + waiting.size > _OWNERS_SHARE * room
        ):
            raise QueueFullError(
                f"{held.requests} requests of yours wait for the model, {held.size} bytes; "
                "the places that are left are kept for others; try again later"
            )

    def note(self, waiting: Waiting, by: int) -> None:
        """Count a request that came or went."""
        self.count += by
        self.size += by * waiting.size
        self._levels[waiting.level] += by
        if not waiting.owner:
            return
        held = self._owners.get(waiting.owner)
        if held is None:
            self._owners[waiting.owner] = held = _Held()
        held.requests += by
        held.size += by * waiting.size
        if not held.requests:
            del self._owners[waiting.owner]
