"""Analytics in process: how many records a second are counted, and how long a question about a day takes.

Records of forty methods, eight agents, four models and fifty principals are parsed from their wire form, as the feed
does, and kept with everything that a batch keeps: once as they come when 10,000 begin in each second, and once as a
million of one day, a backlog whose every batch spans minutes and has hardly two records of one series in any of them.
Times are what the process used of one core, so that neighbours on the machine do not count; `wall` is the clock's.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiation.mesh.v1 import call_record_pb2

import analytics
import mesh
from analytics.adapters.records import fact_of
from analytics.app import GC_THRESHOLDS
from analytics.buckets import Granularity, Span
from analytics.facts import Price, Prices
from analytics.filters import parse_filter
from analytics.metrics import metrics_named
from analytics.query import Queries, Question, order_of
from analytics.rollups import Limits, Rollups
from analytics.store import RollupStore
from analytics.tally import Pending
from bench.measure import quantile, write_results
from mesh.db import Database, open_database
from mesh.migrate import migrate

DAY_S = 1_790_000_000 // 86400 * 86400
BATCH = 5_000
METHODS = [f"tiation.{s}.v1.Service/Method{n}" for s in ("engine", "orchestrator", "integration", "security")
           for n in range(10)]  # fmt: skip


def records(number: int, begin_s: int, spaced_ms: float) -> Iterator[bytes]:
    """Records as they are on the wire, in the order in which they begin."""
    draw = random.Random(7)  # noqa: S311 -- the same records each time
    for at in range(number):
        method = draw.choice(METHODS)
        service = method.split(".")[1]
        agent = draw.randrange(8)
        record = call_record_pb2.CallRecord(
            uid=f"01a2-{at:012x}", service=service, method=method, tenant="default",
            subject=f"tenants/default/principals/p{agent * 6 + draw.randrange(6)}",
            actor=f"tenants/default/agents/a{agent}", peer="spiffe://tiation.local/svc/orchestrator",
            resource=f"tenants/default/{f'models/m{agent % 4}' if service == 'engine' else f'agents/a{agent}'}",
            permission="engine.models.infer", decision="tenants/default/bindings/b", policy_revision=7,
            code=0 if draw.random() < 0.98 else 5, category="EXECUTE", trace_id="0" * 32, request_bytes=300,
            response_bytes=900, stage_us={"identity": 10, "checks": 20, "handler": 400},
            usage={"tokens_in": 20, "rows": 1} if service == "engine" else {},
        )  # fmt: skip
        record.start_time.FromMicroseconds(int((begin_s + at * spaced_ms / 1000) * 1_000_000))
        record.duration.FromMicroseconds(int(draw.lognormvariate(7, 1)))
        yield record.SerializeToString()


def opened(folder: str) -> Database:
    """Analytics' database, migrated."""
    database = open_database(f"sqlite:///{folder}/analytics.db")
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(analytics.__path__[0]) / "migrations" / "versions")
    return database


async def ingest(database: Database, raw: list[bytes]) -> tuple[list[float], float]:
    """Count records; returns records a second of each batch, and of all by the clock."""
    rollups = Rollups(RollupStore(), Limits())
    prices = Prices({"m0": Price(tokens_in_1k=0.02)})
    rates = []
    gc.set_threshold(*GC_THRESHOLDS)
    clock = time.perf_counter()
    for start in range(0, len(raw), BATCH):
        began = time.process_time()
        part = [call_record_pb2.CallRecord.FromString(data) for data in raw[start : start + BATCH]]
        pending = Pending(prices)
        pending.add(fact_of(record, record.start_time.seconds) for record in part)
        before, after = start, start + len(part)

        def keep(transaction, pending=pending, before=before, after=after):
            rollups.keep(transaction, pending, before, after)

        await database.write(keep, durable=False)
        rollups.committed()
        rates.append(len(part) / (time.process_time() - began))
    return rates, len(raw) / (time.perf_counter() - clock)


async def ask(
    database: Database, group_by: tuple[str, ...], metrics: tuple[str, ...], text: str = ""
) -> list[tuple[float, float]]:
    """Seconds of one core, and by the clock, that a day by minute takes, eleven times."""
    queries = Queries(database, RollupStore())
    order, descending = order_of("")
    span = Span(Granularity.MINUTE, DAY_S, DAY_S + 86400)
    question = Question(
        "default", span, metrics_named(metrics), group_by, parse_filter(text), order, descending, limit=100
    )
    taken = []
    for _ in range(11):
        began, clock = time.process_time(), time.perf_counter()
        answer = await queries.answer(question)
        taken.append((time.process_time() - began, time.perf_counter() - clock))
        assert answer.series
    return taken


async def main(number: int) -> None:
    """Print a table and write it down."""
    rows: list[dict[str, object]] = []

    def note(what: str, median: float, unit: str, wall: float, digits: int | None = None) -> None:
        rows.append({"what": what, "median": round(median, digits), "wall": round(wall, digits), "unit": unit})

    with tempfile.TemporaryDirectory(prefix="bench-analytics-") as folder:
        database = opened(folder)
        live, wall = await ingest(database, list(records(number // 5, DAY_S, 0.1)))
        note("ingest at 10,000 a second", quantile(live, 0.5), "records/s", wall)
        await database.close()
    ratios = {"ingest at 10,000 a second, of 10,000": quantile(live, 0.5) / 10_000}
    with tempfile.TemporaryDirectory(prefix="bench-analytics-") as folder:
        database = opened(folder)
        rates, wall = await ingest(database, list(records(number, DAY_S, 86_400_000 / number)))
        note(f"ingest a day of {number}", quantile(rates, 0.5), "records/s", wall)
        ratios["ingest a day, of 10,000 records/s"] = quantile(rates, 0.5) / 10_000
        questions = {
            "a day by minute: calls, errors": ((), ("calls", "errors"), ""),
            "a day by minute: p50, p95, p99": ((), ("latency-p50", "latency-p95", "latency-p99"), ""),
            "a day by minute of one agent": ((), ("calls", "latency-p95"), 'agent = "a3"'),
            "a day by minute and agent": (("agent",), ("calls", "latency-p95"), ""),
        }
        for what, asked in questions.items():
            taken = await ask(database, *asked)
            core, wall = (quantile([each[at] for each in taken], 0.5) for at in (0, 1))
            note(what, core * 1000, "ms", wall * 1000, 1)
            ratios[f"{what}, of 100 ms"] = core / 0.1
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        rows.append({"what": "database", "median": round(size), "unit": "MiB"})
        await database.close()
    write_results("analytics", rows, ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="how many")
    uvloop.run(main(parser.parse_args().records))
