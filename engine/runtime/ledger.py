"""The memory that models take, device by device: it is claimed before it is taken, so that nothing is given out twice.

What a model takes, and which one goes for another, is `engine.repository.room`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

__all__ = ["CPU", "Claim", "Ledger"]

CPU = "cpu"
"""The process' own memory; a GPU's is called `cuda:1`, see `engine.runtime.devices`."""


class Claim:
    """What one model, or one more session of it, has of each device's memory.

    Args:
        ledger: where it is written.
        needs: bytes by device.
    """

    def __init__(self, ledger: Ledger, needs: Mapping[str, int]) -> None:
        self._ledger = ledger
        self.needs = needs

    def resize(self, needs: Mapping[str, int]) -> None:
        """Have it hold so much instead, also where that is more than there is: it is taken already."""
        self._ledger.change(self, needs)

    def release(self) -> None:
        """Give it back; once more changes nothing."""
        self._ledger.change(self, {})


class Ledger:
    """Claims on each device's memory, made and given back from any thread.

    Args:
        limit_of: the most that all models together may take of a device's memory, bytes; 0 for any number.
    """

    def __init__(self, limit_of: Callable[[str], int] = lambda _: 0) -> None:
        self.limit_of = limit_of
        self._changed = threading.Lock()
        self._taken: dict[str, int] = {CPU: 0}

    @property
    def devices(self) -> list[str]:
        """The CPU, and every device of which something was claimed."""
        return sorted(self._taken)

    def taken(self, device: str) -> int:
        """How many bytes of a device's memory are claimed."""
        return self._taken.get(device, 0)

    def claim(self, needs: Mapping[str, int]) -> Claim | None:
        """Have so much of each device's memory, or nothing at all: None where one has not so much left."""
        with self._changed:
            if self._short(needs):
                return None
            claim = Claim(self, {})
            self._write(claim, needs)
            return claim

    def short(self, needs: Mapping[str, int]) -> list[str]:
        """The devices that have not so much left."""
        with self._changed:
            return self._short(needs)

    def change(self, claim: Claim, needs: Mapping[str, int]) -> None:
        """Have a claim hold so much instead."""
        with self._changed:
            self._write(claim, needs)

    def _short(self, needs: Mapping[str, int]) -> list[str]:
        return [
            device
            for device, size in needs.items()
            if size and (limit := self.limit_of(device)) and self._taken.get(device, 0) + size > limit
        ]

    def _write(self, claim: Claim, needs: Mapping[str, int]) -> None:
        for device in {*claim.needs, *needs}:
            self._taken[device] = self.taken(device) + needs.get(device, 0) - claim.needs.get(device, 0)
        claim.needs = dict(needs)
