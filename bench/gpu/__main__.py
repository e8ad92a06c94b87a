"""The engine on one NVIDIA GPU, its classes alone and the whole platform, beside ONNX Runtime in process there.

Ends with 2 where there is no GPU, or no runtime for one, and says why; with 1 where the engine reaches less than 0.85
of the runtime alone at saturation. `--device cpu` tries the program itself where there is no GPU: it keeps no results
and compares nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.gpu.decoder import STREAMS, decoder_rounds
from bench.gpu.encoder import CLIENTS, MAX_BATCH, ROWS, WORKLOADS, bodies_of, classes_rate, limit_rate
from bench.measure import write_results
from bench.serving.load import ask
from bench.serving.ours import platform
from bench.serving.workloads import Workload
from engine.errors import DeviceUnavailableError
from engine.runtime.sessions import SessionSettings, check_device
from mesh.gpus import find_gpus
from mesh.host import SWITCH_S

LEAST = 0.85
NO_GPU = 2


def device_name(device: str) -> str:
    """What the results call the device; ends the program where it cannot be used.

    Raises:
        SystemExit: there is none.
    """
    if device == "cpu":
        return "cpu"
    found = find_gpus()
    if not found.found:
        print(f"no NVIDIA GPU here: {found.error or 'the driver shows none'}; nothing was measured", file=sys.stderr)
        sys.exit(NO_GPU)
    try:
        check_device(SessionSettings(device))
    except DeviceUnavailableError as error:
        print(f"the runtime cannot use the GPU: {error.message}; nothing was measured", file=sys.stderr)
        sys.exit(NO_GPU)
    return found.found[int(device.partition(":")[2] or 0)].name


async def classes(device: str, workload: Workload, seconds: float, rounds: int) -> list[tuple[float, float]]:
    """Rows a second of the runtime alone and of the engine's classes, a pair a round."""
    settings = SessionSettings(device)
    found = []
    for _ in range(rounds):
        alone = await asyncio.to_thread(limit_rate, settings, workload, seconds)
        found.append((alone, await classes_rate(settings, workload, seconds)))
    return found


def whole(device: str, seconds: float, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """The same of the whole engine, as services of the mesh reach it."""
    found: dict[str, list[tuple[float, float]]] = {workload.name: [] for workload in WORKLOADS}
    settings = SessionSettings(device)
    variables = {"TIATION_ENGINE__DEVICE": device, "TIATION_ENGINE__MAX_BATCH": str(MAX_BATCH)}
    with platform(**variables) as ways, tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            for workload in WORKLOADS:
                alone = limit_rate(settings, workload, seconds)
                bodies = bodies_of(Path(scratch), workload)
                reached = ask(
                    ways["tiation, mesh"],
                    workload.model,
                    bodies,
                    clients=CLIENTS,
                    seconds=seconds,
                    expect=ROWS * 384 * 4,
                )
                found[workload.name].append((alone, reached.per_s * ROWS))
    return found


def main() -> None:
    """Measure, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=3, help="how long each figure is measured")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)
    name = device_name(options.device)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for workload in WORKLOADS:
        measured = uvloop.run(classes(options.device, workload, options.seconds, options.rounds))
        found[workload.name, "engine's classes"] = measured
    for what, pairs in whole(options.device, options.seconds, options.rounds).items():
        found[what, "whole engine"] = pairs
    decoded = uvloop.run(decoder_rounds(options.device, options.rounds))
    found[f"docs-writer, {STREAMS} streams", "engine's classes"] = decoded
    rows: list[dict[str, object]] = []
    ratios = {}
    for (what, where), pairs in found.items():
        ratio = statistics.median(ours / alone for alone, ours in pairs)
        ratios[f"{where} / runtime alone: {what}"] = ratio
        rows.append(
            {
                "device": name,
                "workload": what,
                "server": where,
                "per_s": statistics.median(ours for _, ours in pairs),
                "runtime_alone_per_s": statistics.median(alone for alone, _ in pairs),
                "ratio": ratio,
            }
        )
    if options.device == "cpu":
        print("\n".join(map(str, rows)))
        return
    write_results("gpu", rows, ratios)
    if low := [f"{what}: {ratio:.3f} is less than {LEAST}" for what, ratio in ratios.items() if ratio < LEAST]:
        sys.exit("\n".join(low))


if __name__ == "__main__":
    main()
