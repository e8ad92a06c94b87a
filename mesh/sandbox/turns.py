"""Whose turn it is when there are more calls than workers.

Nobody's calls can keep all the workers, and those who wait are served in turn by owner, not by arrival; what a turn is
used for is not known here.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque

from mesh.sandbox.errors import SandboxBusyError

__all__ = ["Turns"]


class Turns:
    """Hands out a number of turns, fairly.

    Args:
        turns: how many can be held at once. One owner holds all but one of them at most.
        max_waiting: how many may wait; one owner a quarter of them.
        max_wait_s: how long one may wait.
    """

    def __init__(self, turns: int, *, max_waiting: int, max_wait_s: float) -> None:
        self._free = turns
        self._per_owner = max(1, turns - 1)
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._count = 0

    async def take(self, owner: str) -> None:
        """Wait for a turn; whoever got one gives it back.

        Raises:
            SandboxBusyError: too many wait already, or the wait was too long.
        """
        if self._may(owner):
            self._grant(owner)
            return
        mine = self._waiting.get(owner, ())
        if self._count >= self._max_waiting or len(mine) >= max(1, self._max_waiting // 4):
            raise SandboxBusyError("too many calls wait for the sandbox; try again later", retry_after_s=1.0)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._count += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await turn
        except BaseException as error:  # a cancelled one, too, gives its place in the row back
            self._withdraw(owner, turn)
            if isinstance(error, TimeoutError):
                raise SandboxBusyError(
                    f"no worker of the sandbox was free for {self._max_wait_s:g} s; try again later",
                    retry_after_s=1.0,
                ) from None
            raise

    def give_back(self, owner: str) -> None:
        """End a turn; the next one who waits gets it."""
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        for waiting in list(self._waiting):
            if not self._free:
                return
            if self._may(waiting):
                turn = self._waiting[waiting].popleft()
                self._served(waiting)
                if not turn.done():  # one whose caller was just cancelled is only dropped
                    self._grant(waiting)
                    turn.set_result(None)

    def _may(self, owner: str) -> bool:
        return self._free > 0 and self._held[owner] < self._per_owner

    def _grant(self, owner: str) -> None:
        self._free -= 1
        self._held[owner] += 1

    def _served(self, owner: str) -> None:
        """Count one less as waiting; an owner who still waits goes to the end of the row."""
        self._count -= 1
        if self._waiting[owner]:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]

    def _withdraw(self, owner: str, turn: asyncio.Future[None]) -> None:
        """Undo a wait that ended without the turn being used."""
        if turn.done() and not turn.cancelled():
            self.give_back(owner)
            return
        if turn in self._waiting.get(owner, ()):
            self._waiting[owner].remove(turn)
            self._served(owner)
