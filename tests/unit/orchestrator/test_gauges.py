"""Figures of runs: what the database says, by agent, and nothing of agents that have none."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest

from orchestrator.gauges import RunGauges
from tests.fakes.background import running
from tests.unit.orchestrator.workplace import AGENT, Workplace

FLOW = "do: [{s: {set: {x: 1}}}]"


async def test_figures_follow_the_runs(both):
    place, registry = Workplace(both[0]), CollectorRegistry()
    await place.bring(FLOW)
    for run_id in ("r1", "r2"):
        await place.start(run_id=run_id)
    gauges = RunGauges(place.database, place.rows, registry, every_s=0.05)

    def value(name):
        return registry.get_sample_value(name, {"agent": AGENT})

    await gauges.read()
    assert (value("tiation_runs_queued"), value("tiation_runs_dead_lettered")) == (2, None)
    assert 0 <= value("tiation_runs_queued_wait_seconds") < 10
    now = datetime.now(UTC)
    for late in (0, 60):

        def claim(transaction, late=late):
            at = now + timedelta(seconds=late)
            return place.rows.claim(transaction, "me", at, at + timedelta(seconds=5), 10, (), 1)

        await place.database.write(claim)
    async with running(gauges.run):
        async with asyncio.timeout(5):
            while value("tiation_runs_dead_lettered") != 2:
                await asyncio.sleep(0.02)
    assert value("tiation_runs_queued") is None
    assert b"tiation_runs_dead_lettered" in generate_latest(registry)
