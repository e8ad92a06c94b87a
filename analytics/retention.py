"""Retention: what is older than it is to be kept is forgotten, a little every minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from analytics.buckets import Granularity
from analytics.ports import RollupRows
from analytics.rollups import Rollups
from mesh.db import Database, Transaction

__all__ = ["Retention"]

_EVERY_S = 60.0


class Retention:
    """Forgets what is old.

    Args:
        database: the service's own.
        rows: its statements.
        rollups: what remembers series.
        kept_d: for how many days the buckets of each granularity are kept.
        now: the wall clock, in seconds.
    """

    def __init__(
        self,
        database: Database,
        rows: RollupRows,
        rollups: Rollups,
        kept_d: Mapping[Granularity, float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._rows = rows
        self._rollups = rollups
        self._kept_d = kept_d
        self._now = now
        self._log = structlog.get_logger("analytics.retention")

    async def run(self) -> None:
        """Forget for ever."""
        while True:
            try:
                await self.once()
            except Exception as error:  # noqa: BLE001 -- a full disk, say: it is tried again
                self._log.warning("old buckets not forgotten", error=str(error))
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> int:
        """Forget what is too old now; returns how many rows that were."""
        dropped = 0
        for granularity, days in self._kept_d.items():
            before = granularity.floor(int(self._now() - days * 86400))
            dropped += await self._database.write(
                partial(self._expire, granularity=granularity.value, before=before), durable=False
            )
        oldest = Granularity.DAY.floor(int(self._now() - max(self._kept_d.values()) * 86400)) - 86400
        await self._database.write(lambda transaction: self._forget_series(transaction, oldest), durable=False)
        return dropped

    def _expire(self, transaction: Transaction, granularity: str, before: int) -> int:
        dropped = self._rows.expire(transaction, granularity, before)
        if dropped:
            self._rollups.forget()  # a late record of a forgotten bucket must not bring it back as it was
        return dropped

    def _forget_series(self, transaction: Transaction, before: int) -> None:
        if self._rows.forget_series(transaction, before):
            self._rollups.forget()
