"""The journal with full durability: an empty run, a step, and steps a second at 16 runs at once.

The services that a flow calls answer at once, so that what is measured is the orchestrator and its database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

import mesh
import orchestrator
from bench.measure import RESULTS, quantile, write_results
from mesh.db import Database, await_database, open_database
from mesh.migrate import migrate
from mesh.sandbox import SandboxPool
from orchestrator.executor import Executor, Limits
from orchestrator.flow import parse_flow
from orchestrator.notices import Notices
from orchestrator.runs import ENDED, Run
from orchestrator.store import RunStore
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import a_run
from tests.fakes.postgres import postgres_server

STEPS = 50
THINK = "call: infer, with: {model: m, inputs: {x: [1]}}"
FLOWS = {
    "empty run": "do: [{s: {set: {x: 1}}}]",
    "set, constant": "do:\n" + "".join(f"  - s{n}: {{set: {{x: {n}}}}}\n" for n in range(STEPS)),
    "set, jq": "do:\n" + "".join(f"  - s{n}: {{set: {{x: '${{ (.x // 0) + 1 }}'}}}}\n" for n in range(STEPS)),
    "infer": "do:\n"
    + "".join(f"  - s{n}: {{call: infer, with: {{model: m, inputs: {{x: [1]}}}}}}\n" for n in range(STEPS)),
    "connect": "do:\n"
    + "".join(f"  - s{n}: {{call: connect, with: {{connection: c, operation: o}}}}\n" for n in range(STEPS)),
}


class Rows(RunStore):
    """Knows which runs are ending, so that waiting for the end costs no reads."""

    def __init__(self) -> None:
        super().__init__()
        self.ending: set[str] = set()

    def finish(self, connection: Any, lease: Any, *rest: Any) -> None:
        """As `RunStore.finish`."""
        super().finish(connection, lease, *rest)
        self.ending.add(lease.run.name)


class Workplace:
    """An executor on a database of its own, and word of every run's end."""

    def __init__(self, database: Database, sandbox: SandboxPool, body: str, concurrent: int) -> None:
        self._database = database
        self._notices = Notices()
        self._rows = Rows()
        flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + body)[0]

        async def flow_of(_: Run) -> Any:
            return flow

        limits = Limits(concurrent, 5.0, 1000)
        self.executor = Executor(database, self._rows, flow_of, lambda _: FakeCalls(), sandbox, self._notices, limits)

    async def one(self, name: str) -> float:
        """Start a run and wait for its end; returns seconds."""
        began = time.perf_counter()
        with self._notices.listen(name) as grown:
            await self._database.write(lambda transaction: self._rows.add(transaction, a_run({}, name), "", "d"))
            self.executor.wake()
            while True:
                grown.clear()
                if name not in self._rows.ending:
                    await grown.wait()
                    continue
                tail = await self._database.read(lambda transaction: self._rows.tail(transaction, name, 10**9, 1))
                if tail is not None and tail[0] in ENDED:
                    assert tail[0] == "SUCCEEDED", tail
                    return time.perf_counter() - began
                await grown.wait()


async def measure(body: str, at_once: int, runs: int, server: str = "") -> tuple[list[float], float]:
    """Seconds of each run, and of all together; on a SQLite file of its own, or in a schema of its own on a server."""
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as folder:
        schema = f"bench_{secrets.token_hex(4)}" if server else ""
        await_database(server or "sqlite://", print, schema=schema)
        database = open_database(server or f"sqlite:///{folder}/orchestrator.db", schema=schema)
        migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
        migrate(database.engine, Path(orchestrator.__path__[0]) / "migrations" / "versions")
        sandbox = SandboxPool()
        await sandbox.jq(".", None)
        place = Workplace(database, sandbox, body, at_once)
        await place.executor.start()
        taken: list[float] = []

        async def client(number: int) -> None:
            for turn in range(runs // at_once):
                taken.append(await place.one(f"tenants/default/agents/a/runs/r{number}-{turn}"))

        await place.one("tenants/default/agents/a/runs/warm")
        began = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(at_once)))
        whole = time.perf_counter() - began
        await place.executor.stop()
        await sandbox.close()
        if server:
            await database.write(lambda transaction: transaction.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE"))
        await database.close()
        return taken, whole


async def compared(server: str, runs: int) -> tuple[list[dict[str, object]], dict[str, float]]:
    """PostgreSQL beside SQLite: each flow on both, one right after the other, three times; the middle one counts."""
    rows: list[dict[str, object]] = []
    ratios: dict[str, float] = {}
    for name in ("empty run", "infer", "connect"):
        steps = 1 if name == "empty run" else STEPS
        rates: dict[str, list[float]] = {"sqlite": [], "postgresql": []}
        for _ in range(3):
            for kind, found in rates.items():
                taken, whole = await measure(FLOWS[name], 16, runs, server if kind == "postgresql" else "")
                found.append(len(taken) * steps / whole)
        for kind, found in rates.items():
            middle = round(statistics.median(found))
            rows.append({"database": kind, "flow": name, "runs_at_once": 16, "steps_per_s": middle})
        pairs = zip(rates["postgresql"], rates["sqlite"], strict=True)
        ratios[f"{name}, 16 runs at once, postgresql / sqlite"] = statistics.median(p / s for p, s in pairs)
    return rows, ratios


async def main(runs: int) -> None:
    """Print a table and write it down."""
    rows: list[dict[str, object]] = []
    for name, body in FLOWS.items():
        steps = 1 if name == "empty run" else STEPS
        for at_once in (1, 16):
            taken, whole = await measure(body, at_once, runs)
            p50 = quantile(taken, 0.5) * 1000
            rows.append(
                {
                    "flow": name,
                    "runs_at_once": at_once,
                    "run_p50_ms": round(p50, 3),
                    "step_p50_ms": round(p50 / steps, 3),
                    "steps_per_s": round(len(taken) * steps / whole),
                    "runs_per_s": round(len(taken) / whole),
                }
            )
    rate = {row["flow"]: float(str(row["steps_per_s"])) for row in rows if row["runs_at_once"] == 16}
    ratios = {
        f"{flow}, 16 runs at once, of 2,000 steps/s": rate[flow] / 2000 for flow in ("set, jq", "infer", "connect")
    }
    write_results("journal", rows, ratios)


async def main_compared(server: str, runs: int) -> None:
    """Print what PostgreSQL is beside SQLite, and write it down beside the rows that are there."""
    path = RESULTS / "journal.json"
    before = json.loads(path.read_text())
    rows, ratios = await compared(server, runs)
    kept = [row for row in before["rows"] if "database" not in row]
    write_results("journal", kept + rows, before["ratios"] | ratios)
    now = json.loads(path.read_text())
    beside = {key: now[key] for key in ("machine", "command", "time")}
    path.write_text(json.dumps({**now, **{key: before[key] for key in beside}, "postgresql": beside}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=64, help="runs a row")
    parser.add_argument(
        "--postgres",
        action="store_true",
        help="compare with PostgreSQL: the one of TIATION_DATABASE, or the one that the tests bring",
    )
    arguments = parser.parse_args()
    given = os.environ.get("TIATION_DATABASE", "")  # on the command line others would see its password
    if not arguments.postgres:
        uvloop.run(main(arguments.runs))
    elif given:
        uvloop.run(main_compared(given, arguments.runs))
    else:
        with postgres_server() as own:
            uvloop.run(main_compared(own.url, arguments.runs))
