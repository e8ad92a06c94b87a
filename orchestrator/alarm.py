"""Looks for runs that nobody holds, whoever let go of them and whatever has died since: those that were put aside and
whose moment has come, those that were queued or left elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from mesh.db import Database
from orchestrator.ports import AsideRows
from orchestrator.waits import HOLD_S

__all__ = ["LOOK_S", "Alarm"]

LOOK_S = HOLD_S / 2
"""More often than the shortest time for which a run is put aside: none is late, whichever process put it aside."""


class Alarm:
    """The clock of all runs that wait, and the one thing that asks the database while there is nothing to do.

    Args:
        database: the service's own database.
        rows: its statements.
        woken: told when there are runs to be taken up.
        look_s: how often to look.
    """

    def __init__(self, database: Database, rows: AsideRows, woken: Callable[[], None], look_s: float = LOOK_S) -> None:
        self._database = database
        self._rows = rows
        self._woken = woken
        self._look_s = look_s
        self._log = structlog.get_logger("orchestrator.alarm")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            pause_s = self._look_s
            try:
                pause_s = await self._look()
            except Exception as error:  # noqa: BLE001 -- whatever ails the database now, runs are found when it is over
                self._log.warning("runs not looked for", error=str(error))
            await asyncio.sleep(pause_s)

    async def _look(self) -> float:
        """Wake what is due; returns how long until the next look."""
        now = datetime.now(UTC)
        ahead = await self._database.read(lambda transaction: self._rows.ahead(transaction, now))
        if ahead.unheld:
            self._woken()
        if ahead.wake_time is None:
            return self._look_s
        if ahead.wake_time > now:
            return min(self._look_s, (ahead.wake_time - now).total_seconds())
        if await self._database.write(lambda transaction: self._rows.wake(transaction, now)):
            self._woken()
        return 0.0
