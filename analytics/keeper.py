"""Keeping what was read: all of it, or where one record cannot be counted, all but that one.

From where to read is `analytics.ingest`'s; which cells are added to is `analytics.rollups`'.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from analytics.facts import Fact, Prices
from analytics.figures import Figures
from analytics.rollups import Rollups
from analytics.tally import Pending
from mesh.db import Database, said, values_at_fault

__all__ = ["Keeper"]


class Keeper:
    """Keeps facts, together with how far the records have been counted.

    Args:
        database: the service's own.
        rollups: keeps what was counted.
        prices: what calls cost.
        figures: the service's own.
    """

    def __init__(self, database: Database, rollups: Rollups, prices: Prices, figures: Figures) -> None:
        self._database = database
        self._rollups = rollups
        self._prices = prices
        self._figures = figures
        self._log = structlog.get_logger("analytics.keeper")

    async def keep(self, facts: Sequence[Fact], positions: Sequence[int], before: int, after: int) -> None:
        """Keep facts and move the cursor on; what cannot be counted, though nothing else is wrong, is left out.

        Args:
            facts: in the order of the feed.
            positions: the feed's position after each of them.
            before: where the cursor stands.
            after: where it shall stand.

        Raises:
            CursorMovedError: it does not stand at `before`.
            DatabaseUnavailableError: the database does not answer; some of the facts may have been kept.
            DatabaseFullError: no room is left for them, or not for all.
        """
        try:
            await self._write(facts, before, after)
        except Exception as error:  # which it is, is asked of it next; what is no value's fault goes on up
            if not facts or not values_at_fault(error):
                raise
            if len(facts) == 1:
                await self._leave_out(facts[0], error, before, after)
                return
            half = len(facts) // 2
            middle = positions[half - 1]
            await self.keep(facts[:half], positions[:half], before, middle)
            await self.keep(facts[half:], positions[half:], middle, after)

    async def _write(self, facts: Sequence[Fact], before: int, after: int) -> None:
        try:
            pending = Pending(self._prices)
            pending.add(facts)
            began = time.perf_counter()
            # Not durable by itself: what power loss takes is taken together with the cursor, and read again.
            await self._database.write(
                lambda transaction: self._rollups.keep(transaction, pending, before, after), durable=False
            )
        except BaseException:  # cancelled ones count too: of those nobody knows whether they were kept
            self._figures.failures.inc()
            raise
        self._rollups.committed()
        self._figures.write_seconds.observe(time.perf_counter() - began)
        self._figures.counted.inc(pending.facts)

    async def _leave_out(self, fact: Fact, error: Exception, before: int, after: int) -> None:
        """Go on behind a record that cannot be counted."""
        await self._write((), before, after)
        self._figures.left_out.inc()
        self._log.error(
            "record left out",
            sequence=after,
            tenant=fact.tenant,
            method=fact.series[1],
            error=f"{type(error).__name__}: {said(error)[:300]}",
        )
