"""What the runtime reaches by itself, in a process of its own: rows a second at each batch size, and at the best."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.serving.workloads import WORKLOADS, Workload, feeds_of
from engine.runtime.sessions import SessionSettings, open_session

__all__ = ["limit_of"]

_SIZES = (1, 8, 16, 32)


def limit_of(workload: Workload, model: Path, seconds: float) -> dict[int, float]:
    """Rows a second by batch size; measured in a process that ends with it."""
    command = [sys.executable, __file__, workload.name, str(model), str(seconds)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return {int(size): rate for size, rate in json.loads(shown).items()}


def _measured(workload: Workload, model: Path, seconds: float) -> dict[int, float]:
    """One session on all cores. Texts of several lengths are sorted, so that a batch holds like ones."""
    session = open_session(model, SessionSettings())
    found = {}
    for size in _SIZES:
        lengths = sorted(workload.lengths) if len(workload.lengths) > 1 else [*(workload.lengths or (0,))] * size
        batches = [feeds_of(workload, lengths[at : at + size]) for at in range(0, len(lengths), size)]
        for feeds in batches:
            session.run(feeds)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for feeds in batches:
                session.run(feeds)
            done += len(lengths)
        found[size] = done / (time.perf_counter() - began)
    session.close()
    return found


if __name__ == "__main__":
    by_name = {workload.name: workload for workload in WORKLOADS}
    sys.stdout.write(json.dumps(_measured(by_name[sys.argv[1]], Path(sys.argv[2]), float(sys.argv[3]))))
