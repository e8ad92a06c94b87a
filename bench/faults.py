"""What a kill costs, what a start costs, and what an idle platform holds in memory.

Every process of a platform under a steady load is killed in turn: how soon it answers again, and what the callers of
the others notice. A start is compared with the import of three large libraries in the same minute, because the machine
may be shared. Memory is what each process holds for itself with its share of what several hold (PSS), a few seconds
after the last of `--runs` runs, with the models loaded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import write_results
from bench.scale import work
from tests.fakes.faults import KILLED, Fault, import_s, kill_under_load
from tests.fakes.installed import Installed, installed
from tests.fakes.load import Load

ALLOWED_MB = 1200
IDLE_S = 5


def kills(here: Installed, rounds: int) -> Iterator[Fault]:
    """Kill every process as often as there are rounds, under load."""
    with Load(here) as load:
        time.sleep(1)
        for _ in range(rounds):
            for service in KILLED:
                yield kill_under_load(here, load, service, import_s())


def memory_mb(here: Installed) -> dict[str, float]:
    """What each process holds, in MB; the sandboxes' under that of the service that has them."""
    supervisor = psutil.Process(here.pid("security")).parent()
    held = {"supervisor": supervisor.memory_full_info().pss / 1e6}
    for name, service in here.gateway["services"].items():
        process = psutil.Process(service["pid"])
        held[name] = process.memory_full_info().pss / 1e6
        if below := process.children(recursive=True):
            held[f"{name}'s {len(below)} sandboxes"] = sum(each.memory_full_info().pss for each in below) / 1e6
    return held


def main(rounds: int, runs: int) -> None:
    """Print a table and write it down."""
    with tempfile.TemporaryDirectory(prefix="bench-faults-") as folder:
        home = Path(folder) / "home"
        starts: list[tuple[float, float]] = []
        with installed(home) as here:
            first = here.ready_s
            here.deploy_example()
        for _ in range(rounds):
            reference = import_s()
            with installed(home) as here:
                starts.append((here.ready_s, statistics.mean((reference, import_s()))))
        with installed(home) as here:
            work(here, runs)
            time.sleep(IDLE_S)
            held = memory_mb(here)
            faults = list(kills(here, rounds))
    rows: list[dict[str, object]] = []
    for service in KILLED:
        of_one = [fault for fault in faults if fault.service == service]
        row = {
            "what": f"kill of {service}",
            "back_s": statistics.median(fault.back_s for fault in of_one),
            "reference_s": statistics.median(fault.reference_s for fault in of_one),
        }
        if service != "envoy":
            row["others_p99_before_ms"] = 1000 * statistics.median(fault.p99_before for fault in of_one)
            row["others_p99_after_ms"] = 1000 * statistics.median(fault.p99_after for fault in of_one)
        rows.append(row)
    ready, reference = (statistics.median(each) for each in zip(*starts, strict=True))
    rows.append({"what": "start to ready, warm home", "ready_s": ready, "reference_s": reference})
    rows.append({"what": "start to ready, new home", "ready_s": first})
    rows += [{"what": f"memory of {name}", "pss_mb": pss} for name, pss in held.items()]
    rows.append({"what": "memory of all", "pss_mb": sum(held.values())})
    ratios = {
        f"{service}: others' p99, after / before": statistics.median(f.ratio for f in faults if f.service == service)
        for service in KILLED
        if service != "envoy"
    }
    ratios["start to ready / import of grpc, sqlalchemy, onnxruntime"] = ready / reference
    ratios[f"memory / {ALLOWED_MB} MB"] = sum(held.values()) / ALLOWED_MB
    write_results("faults", rows, ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--runs", type=int, default=10, help="runs before memory is looked at")
    given = parser.parse_args()
    main(given.rounds, given.runs)
