"""Ingestion: follows the feed, gathers what comes, has it kept, and begins again where it stood when anything breaks.

What is counted, and that it is counted once, is `analytics.rollups`'; what becomes of a record that cannot be counted
is `analytics.keeper`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from analytics.errors import CursorMovedError, FeedBrokenError
from analytics.figures import Figures
from analytics.keeper import Keeper
from analytics.ports import Batch, Feed, RollupRows
from mesh.db import Database
from mesh.linger import Linger

__all__ = ["Ingest"]

_WAITING = 8
"""Batches that wait to be kept: while one is written, the next ones arrive."""
_LINGER_S, _LONGEST_LINGER_S = 0.2, 1.0
_MAX_FACTS = 5_000
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


class Ingest:
    """Counts the records of security.

    Args:
        feed: the records.
        database: the service's own.
        rows: its statements.
        keeper: keeps what was read.
        figures: the service's own.
        changed: told whenever something was counted.
    """

    def __init__(
        self,
        feed: Feed,
        database: Database,
        rows: RollupRows,
        keeper: Keeper,
        figures: Figures,
        changed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._feed = feed
        self._database = database
        self._rows = rows
        self._keeper = keeper
        self._figures = figures
        self._changed = changed
        self._log = structlog.get_logger("analytics.ingest")
        self._newest = 0

    async def run(self) -> None:
        """Count for ever."""
        pause_s = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except (FeedBrokenError, CursorMovedError) as error:
                self._log.warning("records not followed", error=error.message, retry_in_s=pause_s)
            except Exception as error:  # noqa: BLE001 -- a full disk, a mistake: counting goes on when it is over
                self._log.error("records not counted", error=f"{type(error).__name__}: {error}", retry_in_s=pause_s)
            if time.monotonic() - began > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _follow(self) -> None:
        """Follow the feed from where the cursor stands, until either breaks."""
        position = await self._database.read(self._rows.position)
        self._changed(position)
        queue: asyncio.Queue[Batch] = asyncio.Queue(_WAITING)
        reader = asyncio.create_task(self._read(position, queue))
        linger = Linger(_LINGER_S, _LONGEST_LINGER_S)
        try:
            while True:
                batches = await self._gathered(queue, reader, linger)
                if self._newest < position:
                    await self._step_back(position)
                position = await self._keep(batches, position)
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError, Exception):  # what broke it has been raised by `_gathered`
                await reader

    async def _read(self, position: int, queue: asyncio.Queue[Batch]) -> None:
        async for batch in self._feed.follow(position):
            self._newest = batch.newest
            await queue.put(batch)

    async def _gathered(self, queue: asyncio.Queue[Batch], reader: asyncio.Task[None], linger: Linger) -> list[Batch]:
        """What has come, once something has; lingers for more, because a commit costs the same for one."""
        began = time.monotonic()
        waiting = asyncio.create_task(queue.get())
        try:
            await asyncio.wait((waiting, reader), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                reader.result()
                raise FeedBrokenError("the stream of records ended")
            batches = [waiting.result()]
        finally:
            waiting.cancel()
        now = time.monotonic()
        facts, deadline = len(batches[0].facts), now + linger.next_s(now - began)
        while facts < _MAX_FACTS and (left_s := deadline - time.monotonic()) > 0 and not reader.done():
            try:
                async with asyncio.timeout(left_s):
                    batches.append(await queue.get())
            except TimeoutError:
                break
            facts += len(batches[-1].facts)
        return batches

    async def _keep(self, batches: list[Batch], position: int) -> int:
        """Keep what came; returns where the cursor stands then."""
        last = batches[-1].last
        if last == position:
            self._note(batches[-1], position)
            return position
        facts = [fact for batch in batches for fact in batch.facts]
        positions = [after for batch in batches for after in batch.positions]
        await self._keeper.keep(facts, positions, position, last)
        self._note(batches[-1], last)
        self._changed(last)
        return last

    async def _step_back(self, position: int) -> None:
        """Go back with the records: security was restored to an earlier state, and gives the same sequences again.

        Raises:
            FeedBrokenError: always; the feed has to be followed from there.
        """
        newest = self._newest
        await self._database.write(lambda transaction: self._rows.move(transaction, position, newest))
        raise FeedBrokenError(f"the records end at {newest}, {position} had been counted; going on from {newest}")

    def _note(self, batch: Batch, position: int) -> None:
        """Say how far behind counting is."""
        behind = max(0, self._newest - position)
        self._figures.behind.set(behind)
        self._figures.behind_seconds.set(max(0.0, time.time() - batch.receive_s) if behind and batch.receive_s else 0)
