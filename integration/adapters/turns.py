"""How much of what all tenants share one tenant may take at once: whoever waits for a slow system waits alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.identity import current_caller

__all__ = ["Turns", "calling_tenant"]


class Turns:
    """So many at once for each owner; the others wait.

    Args:
        at_once: how many.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._present: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        gate = self._gates.setdefault(owner, asyncio.Semaphore(self.at_once))
        self._present[owner] = self._present.get(owner, 0) + 1
        try:
            async with gate:
                yield
        finally:
            self._present[owner] -= 1
            if not self._present[owner]:
                del self._gates[owner], self._present[owner]


def calling_tenant() -> str:
    """The tenant that the call being served acts in; empty outside a call."""
    try:
        return current_caller().tenant
    except LookupError:
        return ""
