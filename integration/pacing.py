"""Pacing: no system is asked more often than its connection allows, nor before the time that it has named itself.

Rates are kept in the service's own database and hold for every process on it together, after the generic cell rate
algorithm (ITU-T I.371): one time a limit, before which nothing may pass. Whoever would have to wait for longer than the
caller does is told how long, at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from integration.errors import RateLimitedError
from integration.ports import LimitRows, Limits, Target
from mesh.db import Database, Transaction

__all__ = ["LONGEST_HOLD_S", "Pacer", "heeded_s"]

LONGEST_HOLD_S = 86_400.0
_TRIES = 20
_MAX_KEPT = 1024


def heeded_s(said_s: float) -> float:
    """For how long a system is left alone that says so: as it says, but for a day at most."""
    return min(max(0.0, said_s), LONGEST_HOLD_S)


class _LostRaceError(Exception):
    """Another process moved a limit meanwhile; nothing of ours is kept."""


class Pacer:
    """Lets calls pass in their time.

    Args:
        database: the service's own.
        rows: its statements.
        now: seconds since 1970.
    """

    def __init__(self, database: Database, rows: LimitRows, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._rows = rows
        self._now = now
        self._gates: dict[tuple[str, int], asyncio.Semaphore] = {}

    @asynccontextmanager
    async def turn(self, target: Target, limits: Limits, max_wait_s: float) -> AsyncIterator[None]:
        """Wait for a turn, and hold it.

        Args:
            target: which system.
            limits: how much it may be asked.
            max_wait_s: how long to wait at most.

        Raises:
            RateLimitedError: the wait would be longer; nothing was used up.
        """
        patience = asyncio.get_running_loop().time() + max_wait_s
        gate = self._gate(target, limits.concurrency)
        if gate is not None:
            try:
                async with asyncio.timeout(max(max_wait_s, 0.001)):
                    await gate.acquire()
            except TimeoutError:
                raise _limited(target, 1.0, f"{limits.concurrency} calls of it are under way already") from None
        try:
            left_s = max(0.0, patience - asyncio.get_running_loop().time())  # no wait is never too long
            wait_s = await self._reserve(target, limits, left_s)
            await asyncio.sleep(wait_s)
            yield
        finally:
            if gate is not None:
                gate.release()

    async def hold_off(self, target: Target, wait_s: float) -> None:
        """Hear from the system that it is not to be asked for a while; every process hears it."""
        until = self._now() + min(wait_s, LONGEST_HOLD_S)
        await self._database.write(
            lambda transaction: self._rows.hold_off(transaction, _key(target), until), durable=False
        )

    async def _reserve(self, target: Target, limits: Limits, max_wait_s: float) -> float:
        """Take the next free moment; returns how far away it is."""
        for _ in range(_TRIES):
            now = self._now()
            if limits.rates:
                try:
                    wait_s = await self._database.write(
                        partial(self._take, target=target, limits=limits, now=now, max_wait_s=max_wait_s), durable=False
                    )
                except _LostRaceError:
                    continue
            else:
                free_at = await self._database.read(lambda transaction: self._rows.free_at(transaction, _key(target)))
                wait_s = max(0.0, free_at - now)
            if wait_s > max_wait_s:
                raise _limited(target, wait_s, "it takes no more calls for now")
            return wait_s
        raise _limited(target, 1.0, "too many calls of it begin at once")

    def _take(
        self, transaction: Transaction, *, target: Target, limits: Limits, now: float, max_wait_s: float
    ) -> float:
        """Move every limit on by one request, unless the wait is too long.

        Raises:
            _LostRaceError: another process was faster.
        """
        wait_s = max(0.0, self._rows.free_at(transaction, _key(target)) - now)
        moves = []
        for requests, window_s in limits.rates:
            key = f"{_key(target)}/{window_s:g}"
            seen = self._rows.free_at(transaction, key)
            due = max(seen, now)
            burst_s = window_s - window_s / requests if requests > 1 else 0.0
            wait_s = max(wait_s, due - burst_s - now)
            moves.append((key, seen, due + window_s / requests))
        if wait_s <= max_wait_s:
            for key, seen, free_at in moves:
                if not self._rows.move_limit(transaction, key, seen, free_at):
                    raise _LostRaceError
        return wait_s

    def _gate(self, target: Target, concurrency: int) -> asyncio.Semaphore | None:
        if not concurrency:
            return None
        key = (target.uid or target.name, concurrency)
        gate = self._gates.get(key)
        if gate is None:
            if len(self._gates) >= _MAX_KEPT:
                self._gates = {kept: each for kept, each in self._gates.items() if each.locked()}
            gate = self._gates[key] = asyncio.Semaphore(concurrency)
        return gate


def _key(target: Target) -> str:
    return target.uid or target.name


def _limited(target: Target, wait_s: float, why: str) -> RateLimitedError:
    return RateLimitedError(
        f"{target.name} must wait {wait_s:.1f} s: {why}", retry_after_s=wait_s, resource=target.name
    )
