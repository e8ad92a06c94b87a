"""Wakes runs that were put aside when their moment comes, whoever put them aside and whatever has died since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from mesh.db import Database
from orchestrator.ports import AsideRows
from orchestrator.waits import HOLD_S

__all__ = ["Alarm"]

_LOOK_AGAIN_S = HOLD_S / 2
"""More often than the shortest time for which a run is put aside: none is late, whichever process put it aside."""


class Alarm:
    """The clock of all runs that wait.

    Args:
        database: the service's own database.
        rows: its statements.
        woken: told when there are runs to be taken up.
    """

    def __init__(self, database: Database, rows: AsideRows, woken: Callable[[], None]) -> None:
        self._database = database
        self._rows = rows
        self._woken = woken
        self._log = structlog.get_logger("orchestrator.alarm")

    async def run(self) -> None:
        """Wake runs until cancelled."""
        while True:
            pause_s = _LOOK_AGAIN_S
            try:
                pause_s = await self._look()
            except Exception as error:  # noqa: BLE001 -- whatever ails the database now, runs are woken when it is over
                self._log.warning("runs not woken", error=str(error))
            await asyncio.sleep(pause_s)

    async def _look(self) -> float:
        """Wake what is due; returns how long until the next look."""
        due = await self._database.read(self._rows.next_wake)
        if due is None:
            return _LOOK_AGAIN_S
        now = datetime.now(UTC)
        if due > now:
            return min(_LOOK_AGAIN_S, (due - now).total_seconds())
        if await self._database.write(lambda transaction: self._rows.wake(transaction, now)):
            self._woken()
        return 0.0
