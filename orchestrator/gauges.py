"""Figures of runs that wait and of runs that were given up, by agent, read from the database every few seconds.

They are of the database, so that they survive restarts and every orchestrator shows the same.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from prometheus_client import CollectorRegistry, Gauge

from mesh.db import Database, Transaction
from orchestrator.ports import RunRows

__all__ = ["RunGauges"]

_EVERY_S = 5.0


class RunGauges:
    """Keeps the figures fresh.

    Args:
        database: the service's own database.
        rows: statements for runs.
        registry: where figures are collected.
        every_s: how often they are read.
    """

    def __init__(
        self, database: Database, rows: RunRows, registry: CollectorRegistry, every_s: float = _EVERY_S
    ) -> None:
        self._database = database
        self._rows = rows
        self._every_s = every_s
        self._dead = Gauge(
            "tiation_runs_dead_lettered",
            "Runs that were given up and not redriven; more than 0 wants somebody to look.",
            ("agent",),
            registry=registry,
        )
        self._queued = Gauge("tiation_runs_queued", "Runs that wait for their turn.", ("agent",), registry=registry)
        self._oldest = Gauge(
            "tiation_runs_queued_wait_seconds",
            "How long the next run of the agent has waited; a step of priority counts as a minute.",
            ("agent",),
            registry=registry,
        )
        self._log = structlog.get_logger("orchestrator.gauges")

    async def read(self) -> None:
        """Read once."""

        def work(transaction: Transaction) -> tuple[dict[str, int], list[tuple[str, int, int]]]:
            return dict(self._rows.dead_letters(transaction)), list(self._rows.waiting(transaction))

        dead, waiting = await self._database.read(work)
        for gauge in (self._dead, self._queued, self._oldest):
            gauge.clear()
        for agent, count in dead.items():
            self._dead.labels(agent).set(count)
        for agent, count, rank in waiting:
            self._queued.labels(agent).set(count)
            self._oldest.labels(agent).set(max(0.0, time.time() - rank / 1000))

    async def run(self) -> None:
        """Read for ever."""
        while True:
            try:
                await self.read()
            except Exception as error:  # noqa: BLE001 -- whatever ails the database now, it is read again later
                self._log.warning("figures of runs not read", error=str(error))
            await asyncio.sleep(self._every_s)
