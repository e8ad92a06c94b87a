"""Whether a platform that has worked for long is as fast and as small as a new one.

Two platforms side by side: one with ten finished runs, one with as many finished runs and records as asked for. Every
figure is taken from both in turn, call by call, and given as the full one's share of the new one's.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from google.protobuf import json_format
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc
from tiation.security.v1 import record_pb2, record_pb2_grpc

from bench.measure import write_results
from tests.fakes.installed import EXAMPLE, Installed, installed

AGENT = "tenants/default/agents/support-triage"
FEW = 10
TURNS = 60
BATCH = 10_000
COUNTED, BEHIND = "tiation_analytics_facts_total", "tiation_analytics_facts_behind"


def work(here: Installed, count: int) -> list[str]:
    """Let the example's agent work; returns the runs' names once all have ended."""
    messages = json.loads((EXAMPLE / "messages.json").read_text())
    names = []
    with here.channel() as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        for number in range(count):
            names.append(one_run(stub, messages[number % len(messages)]))
    return names


def one_run(stub: Any, message: dict[str, str]) -> str:
    """Start a run and follow it to its end."""
    run = run_pb2.Run()
    json_format.ParseDict({"id": uuid.uuid4().hex, "message": message["message"], "tier": message["tier"]}, run.input)
    made = stub.CreateRun(run_pb2.CreateRunRequest(parent=AGENT, run=run), timeout=30)
    for _ in stub.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=made.name), timeout=30):
        pass
    return str(made.name)


def fill(home: Path, runs: int, records: int) -> None:
    """Copy a stopped platform's finished runs and records until there are so many."""
    with closing(home / "orchestrator" / "orchestrator.db") as database:
        columns = names_of(database, "runs")
        kept = database.execute("SELECT * FROM runs WHERE state = 'SUCCEEDED' ORDER BY name").fetchall()
        events = {
            row[columns.index("name")]: database.execute(
                "SELECT * FROM events WHERE run = ?", (row[columns.index("name")],)
            ).fetchall()
            for row in kept
        }
        of_event = names_of(database, "events")
        made: list[tuple[Any, ...]] = []
        made_events: list[tuple[Any, ...]] = []
        for number in range(runs - len(kept)):
            row = dict(zip(columns, kept[number % len(kept)], strict=True))
            name = f"{row['agent']}/runs/filled-{number:07}"
            made_events += [(name, *event[1:]) for event in events[row["name"]]]
            made.append(tuple((row | {"name": name, "uid": uuid.uuid4().hex, "request_id": None}).values()))
            if len(made) == BATCH or number == runs - len(kept) - 1:
                insert(database, "runs", columns, made)
                insert(database, "events", of_event, made_events)
                made, made_events = [], []
    with closing(home / "security" / "security.db") as database:
        columns = [name for name in names_of(database, "records") if name != "sequence"]
        kept = database.execute(
            f"SELECT {', '.join(columns)} FROM records ORDER BY sequence DESC LIMIT 1000"
        ).fetchall()
        at = columns.index("uid")
        have = database.execute("SELECT count(*) FROM records").fetchone()[0]
        for begin in range(0, records - have, BATCH):
            batch = [list(kept[n % len(kept)]) for n in range(begin, min(begin + BATCH, records - have))]
            for row in batch:
                row[at] = str(uuid.uuid4())
            insert(database, "records", columns, batch)


@contextmanager
def closing(path: Path) -> Iterator[sqlite3.Connection]:
    """A database, committed and closed."""
    database = sqlite3.connect(path)
    try:
        yield database
        database.commit()
    finally:
        database.close()


def names_of(database: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table."""
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def insert(database: sqlite3.Connection, table: str, columns: list[str], rows: list[Any]) -> None:
    """Add rows and commit them."""
    marks = ", ".join("?" * len(columns))
    database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
    database.commit()


def questions(here: Installed, names: list[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, by name."""
    channel = here.channel()
    runs, records = run_pb2_grpc.RunServiceStub(channel), record_pb2_grpc.RecordServiceStub(channel)
    message = json.loads((EXAMPLE / "messages.json").read_text())[0]
    listed = records.ListRecords(record_pb2.ListRecordsRequest(parent="tenants/default", page_size=50))
    oldest = record_pb2.GetRecordRequest(name=listed.records[-1].name)

    def stream() -> int:
        return sum(1 for _ in runs.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=names[0]), timeout=30))

    def list_records(**wanted: str) -> Callable[[], object]:
        request = record_pb2.ListRecordsRequest(parent="tenants/default", page_size=50, **wanted)
        return lambda: records.ListRecords(request, timeout=60)

    yield "get a run", lambda: runs.GetRun(run_pb2.GetRunRequest(name=names[0]), timeout=30)
    yield "list 10 runs", lambda: runs.ListRuns(run_pb2.ListRunsRequest(parent=AGENT, page_size=10), timeout=30)
    yield "stream a run's events", stream
    yield "a whole run", lambda: one_run(runs, message)
    yield "get a record", lambda: records.GetRecord(oldest, timeout=30)
    yield "list 50 records", list_records()
    yield "list a service's records", list_records(service="engine")
    yield "list denied records", list_records(outcome="PERMISSION_DENIED")


def resident_mb(here: Installed) -> float:
    """Resident memory of the platform's processes, children included, MB."""
    found = {psutil.Process(int(each["pid"])) for each in here.gateway["services"].values()}
    found |= {child for process in list(found) for child in process.children(recursive=True)}
    return sum(process.memory_info().rss for process in found) / 1e6


def wait_counted(here: Installed) -> None:
    """Wait until analytics has counted every record: those that were filled in came all at once."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        lines = [line for line in here.metrics("analytics").splitlines() if not line.startswith("#")]
        figures = dict(line.rsplit(" ", 1) for line in lines if line)
        if float(figures[COUNTED]) and not float(figures[BEHIND]):
            return
        time.sleep(1)
    raise TimeoutError("analytics has not counted every record in ten minutes")


def compare(new: Installed, full: Installed, names: dict[str, list[str]]) -> list[dict[str, object]]:
    """Every question to both in turn; medians in milliseconds."""
    rows: list[dict[str, object]] = []
    for (what, ask_new), (_, ask_full) in zip(
        questions(new, names["new"]), questions(full, names["full"]), strict=True
    ):
        taken: dict[str, list[float]] = {"new": [], "full": []}
        for turn in range(TURNS + 5):
            for which, ask in (("new", ask_new), ("full", ask_full)):
                began = time.perf_counter()
                ask()
                if turn >= 5:
                    taken[which].append((time.perf_counter() - began) * 1000)
        new_ms, full_ms = statistics.median(taken["new"]), statistics.median(taken["full"])
        rows.append({"what": what, "new": round(new_ms, 3), "full": round(full_ms, 3), "unit": "ms, median"})
    return rows


def deny_some(here: Installed) -> None:
    """Leave more than a page of denials, the oldest of all records: whoever looks for them has far to look."""
    with here.channel(here.token(role="viewer")) as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        for _ in range(60):
            with suppress(grpc.RpcError):
                stub.CreateRun(run_pb2.CreateRunRequest(parent=AGENT, run=run_pb2.Run()), timeout=30)


def main(runs: int, records: int) -> None:
    """Print a table and write it down."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        names = {}
        for which in ("new", "full"):
            with installed(Path(folder) / which) as here:
                here.deploy_example()
                deny_some(here)
                names[which] = work(here, FEW)
        print(f"filling up to {runs} runs and {records} records", flush=True)
        fill(Path(folder) / "full", runs, records)
        with installed(Path(folder) / "new") as new, installed(Path(folder) / "full") as full:
            for here in (new, full):
                wait_counted(here)
            time.sleep(5)
            memory = {"new": resident_mb(new), "full": resident_mb(full)}
            rows = compare(new, full, names)
            ready = {"new": round(new.ready_s, 2), "full": round(full.ready_s, 2)}
            rows.append({"what": "ready after `up`", **ready, "unit": "s"})
            held = {"new": round(memory["new"]), "full": round(memory["full"])}
            rows.append({"what": "idle memory", **held, "unit": "MB"})
    for row in rows:
        row["runs"], row["records"] = runs, records
    ratios = {f"{row['what']}, full / new": float(str(row["full"])) / float(str(row["new"])) for row in rows}
    write_results("scale", rows, ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="finished runs of the full platform")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the full platform")
    given = parser.parse_args()
    main(given.runs, given.records)
