"""Claims while the database is full: 100,000 finished runs and 10,000 that wait, against ten and ten."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import mesh
import orchestrator
from bench.measure import quantile, write_results
from mesh.db import Database, open_database
from mesh.migrate import migrate
from mesh.pagination import Page
from orchestrator.filter import parse_filter, parse_order
from orchestrator.store import RunStore
from tests.fakes.orchestrator_journal import a_run

ROWS = RunStore()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUSY = "tenants/default/agents/busy"
STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "DEAD_LETTERED")


def filled(folder: str, finished: int, waiting: int) -> Database:
    """A database with so many runs; half of those that wait are of an agent at its limit, and are older."""
    database = open_database(f"sqlite:///{folder}/orchestrator.db")
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(orchestrator.__path__[0]) / "migrations" / "versions")
    with database.engine.begin() as connection:
        for number in range(finished + waiting):
            agent = "busy" if number % 2 and number >= finished else "a"
            run = a_run({}, f"tenants/default/agents/{agent}/runs/r{number:06}")
            ROWS.add(connection, replace(run, create_time=NOW + timedelta(seconds=number)), "", "d")
        last = f"tenants/default/agents/a/runs/r{finished:06}"
        done = "UPDATE runs SET state = 'SUCCEEDED', end_time = create_time WHERE name < ?"
        connection.exec_driver_sql(done, (last,))
        connection.exec_driver_sql("UPDATE runs SET rank = rank - 1000000000 WHERE agent = ?", (BUSY,))
        connection.exec_driver_sql("ANALYZE")
    return database


def timed(database: Database, work, times: int, before=lambda _: None) -> float:
    """Median milliseconds of some work, each time in a transaction that is undone."""
    taken = []
    for _ in range(times):
        with database.engine.connect() as connection:
            before(connection)
            began = time.perf_counter()
            work(connection)
            taken.append((time.perf_counter() - began) * 1000)
            connection.rollback()
    return quantile(taken, 0.5)


def measure(finished: int, waiting: int, times: int) -> dict[str, object]:
    """One row of the table."""
    later = NOW + timedelta(days=9)

    def claim(connection) -> None:
        assert len(ROWS.claim(connection, "me", NOW, later, 1)) == 1

    def fill_busy(connection) -> None:
        ROWS.set_queue(connection, BUSY, paused=False, max_concurrency=1)
        ROWS.claim(connection, "other", NOW, datetime(2100, 1, 1, tzinfo=UTC), 1)  # the oldest is of the busy one

    def claim_past_full(connection) -> None:
        (lease,) = ROWS.claim(connection, "me", NOW, later, 1)
        assert "busy" not in lease.run.name

    dead = parse_filter("state = DEAD_LETTERED", STATES)
    newest = parse_order("create_time desc")
    with tempfile.TemporaryDirectory(prefix="bench-claims-") as folder:
        database = filled(folder, finished, waiting)
        agent = "tenants/default/agents/a"
        row = {
            "finished": finished,
            "waiting": waiting,
            "claim_ms": timed(database, claim, times),
            "claim_past_full_ms": timed(database, claim_past_full, times, fill_busy),
            "quota_ms": timed(database, lambda c: ROWS.is_queue_full(c, agent, 0, 100_000), times),
            "list_newest_ms": timed(database, lambda c: ROWS.page(c, agent, Page(50, None), None, newest), times),
            "list_dead_ms": timed(database, lambda c: ROWS.page(c, agent, Page(50, None), dead), times),
        }
        database.engine.dispose()
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="repetitions a figure")
    given = parser.parse_args()
    few, many = measure(10, 10, given.times), measure(100_000, 10_000, given.times)
    ratio = float(str(many["claim_ms"])) / float(str(few["claim_ms"]))
    write_results("claims", [few, many], {"a claim with 110,000 runs, of one with 20": ratio})
