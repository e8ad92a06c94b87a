"""The engine, the runtime by itself, and the peers that can be installed, side by side.

A machine's speed changes from one minute to the next: every server is measured in every round, the order changes from
round to round, and each figure is compared with what the runtime itself reached in the same round. What a load leaves
to be done, such as records that wait to be shipped, is waited for before the next one; `rest_s` says how long that
took. A peer that cannot be installed or started here has a row that says why.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure import write_results
from bench.serving.limit import limit_of
from bench.serving.load import ROOT, Found, ask
from bench.serving.ours import platform
from bench.serving.peers import PEERS, PeerError, started
from bench.serving.rest import rested
from bench.serving.workloads import ENCODER, TINY, WORKLOADS, Workload, write_bodies, write_tiny

OURS = ("tiation, mesh", "tiation, gateway")
_LEAST = {TINY: 16, ENCODER: 384 * 4}
"""Bytes of the answer to one row; as JSON it is longer."""


class Measured:
    """What was found, by server, workload and clients, a value a round."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, int], list[Found]] = defaultdict(list)
        self.rests: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        self.limits: dict[str, list[dict[int, float]]] = defaultdict(list)
        self.ratios: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        self.failed: dict[str, str] = {}

    def add(self, server: str, workload: Workload, clients: int, found: Found, rest_s: float) -> None:
        """One figure, compared with the limit of this round, and how long the machine was busy after it."""
        key = (server, workload.name, clients)
        self.found[key].append(found)
        self.rests[key].append(rest_s)
        self.ratios[key].append(found.per_s / max(self.limits[workload.name][-1].values()))
        sys.stderr.write(
            f"{server:18} {workload.name:24} {clients:3}  {found.per_s:9.1f}/s  {self.ratios[key][-1]:.3f}\n"
        )

    def rows(self) -> list[dict[str, object]]:
        """Medians, a row a server, workload and number of clients."""
        rows: list[dict[str, object]] = []
        for workload in WORKLOADS:
            typical = {
                size: statistics.median(each[size] for each in self.limits[workload.name])
                for size in self.limits[workload.name][0]
            }
            best = max(typical, key=lambda size: typical[size])
            one = 1000 / typical[1]
            server = f"runtime alone, batch {best}"
            rows.append(_row(workload.name, server, 1, typical[best], ratio_to_limit=1.0, one_row_ms=one))
            for (name, of, clients), found in self.found.items():
                if of == workload.name:
                    rate, p50, p99 = (
                        statistics.median(getattr(each, field) for each in found)
                        for field in ("per_s", "p50_ms", "p99_ms")
                    )
                    ratio, rest_s = (statistics.median(each[name, of, clients]) for each in (self.ratios, self.rests))
                    figures = {"p50_ms": p50, "p99_ms": p99, "ratio_to_limit": ratio, "rest_s": rest_s}
                    rows.append(_row(of, name, clients, rate, **figures))
        rows += [{"model": "", "server": name, "did_not_run": why} for name, why in self.failed.items()]
        return rows


def _row(model: str, server: str, concurrency: int, items_per_s: float, **figures: float) -> dict[str, object]:
    return {"model": model, "server": server, "concurrency": concurrency, "items_per_s": items_per_s, **figures}


def main() -> None:
    """Measure in rounds and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="how long each figure is measured")
    parser.add_argument("--only", default="", help=f"peers, separated by commas: {', '.join(PEERS)}; `none` for none")
    options = parser.parse_args()
    peers = [name for name in PEERS if not options.only or name in options.only.split(",")]
    measured = Measured()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_tiny(folder / TINY)
        models = {TINY: folder / TINY / "model.onnx", ENCODER: ROOT / ".models" / ENCODER / "1" / "model.onnx"}
        for number in range(options.rounds):
            for workload in WORKLOADS:
                measured.limits[workload.name].append(limit_of(workload, models[workload.model], options.seconds / 4))
            servers = ["tiation", *peers]
            for name in servers[number % len(servers) :] + servers[: number % len(servers)]:
                _measure(name, models, folder, measured, options.seconds, number)
    write_results("engine" if peers else "engine_alone", measured.rows(), _ratios(measured))


def _measure(name: str, models: dict[str, Path], folder: Path, measured: Measured, seconds: float, number: int) -> None:
    """One server, every workload."""
    padded, wrapped = (PEERS[name].padded, PEERS[name].wrapped) if name in PEERS else (False, "")
    trial = write_bodies(folder, WORKLOADS[0], wrapped=wrapped)

    @contextmanager
    def peer():
        with started(name, models, trial, folder / f"{name}-{number}") as target:
            yield {name: target}

    try:
        with platform() if name == "tiation" else peer() as targets:
            rested()
            for row, target in targets.items():
                for workload in WORKLOADS:
                    apart = padded and len(workload.lengths) > 1
                    bodies = write_bodies(folder, workload, padded=apart, wrapped=wrapped)
                    for clients in workload.clients:
                        expect = _LEAST[workload.model]
                        found = ask(target, workload.model, bodies, clients=clients, seconds=seconds, expect=expect)
                        measured.add(row, workload, clients, found, rested())
    except (PeerError, RuntimeError) as error:
        if name not in PEERS:
            raise
        measured.failed[name] = str(error)
        sys.stderr.write(f"{name}: {error}\n")


def _ratios(measured: Measured) -> dict[str, float]:
    """How each server compares with the runtime alone, and Triton with the engine."""
    ratios = {
        f"{server} / limit: {workload}, {clients} clients": statistics.median(values)
        for (server, workload, clients), values in measured.ratios.items()
        if server in OURS
    }
    for (server, workload, clients), values in measured.ratios.items():
        if server == OURS[0] and (triton := measured.ratios.get(("Triton", workload, clients))):
            ratios[f"{server} / Triton: {workload}, {clients} clients"] = statistics.median(
                ours / theirs for ours, theirs in zip(values, triton, strict=False)
            )
    return ratios


if __name__ == "__main__":
    main()
