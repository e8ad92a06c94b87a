"""MiniLM, 32 token ids a row: the same ids in process and through the gateway, by 1, 8 and 32 clients.

A machine's speed changes from one minute to the next, so each figure through the gateway is compared with what the best
batch reached in process just before it and just after.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from inference import grpc_service_pb2

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import quantile, write_results
from tests.fakes.installed import CLONE, Installed, installed

MODEL = CLONE / ".models" / "all-minilm-l6-v2" / "1" / "model.onnx"
LENGTH = 32
CLIENTS = (1, 8, 32)


def ids(seed: int, rows: int) -> np.ndarray:
    """Token ids, int64 (rows, 32): ordinary words of the vocabulary between the two special tokens."""
    made = np.random.default_rng(seed).integers(1996, 29000, (rows, LENGTH), dtype=np.int64)
    made[:, 0], made[:, -1] = 101, 102
    return made


def in_process(seconds: float) -> dict[int, float]:
    """Rows per second by batch size, with the settings of the engine."""
    from engine.runtime.sessions import SessionSettings, open_session

    session = open_session(MODEL, SessionSettings())
    found = {}
    for rows in (1, 8, 16, 32):
        feeds = {"input_ids": ids(rows, rows), "attention_mask": np.ones((rows, LENGTH), np.int64)}
        session.run(feeds)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            session.run(feeds)
            done += rows
        found[rows] = done / (time.perf_counter() - began)
    session.close()
    return found


def through_gateway(here: Installed, folder: Path, count: int, seconds: float) -> tuple[float, float, float]:
    """Rows per second, p50 and p99 in milliseconds: h2load with that many connections, one request at a time each."""
    asked = grpc_service_pb2.ModelInferRequest(model_name="all-minilm-l6-v2")
    for name, value in (("input_ids", ids(1, 1)), ("attention_mask", np.ones((1, LENGTH), np.int64))):
        asked.inputs.add(name=name, datatype="INT64", shape=[1, LENGTH])
        asked.raw_input_contents.append(value.tobytes())
    message = asked.SerializeToString()
    body, log = folder / "body", folder / "requests.log"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    command = ["h2load", "-D", str(seconds), "--warm-up-time", "1", "-c", str(count), "-m", "1", "-d", str(body)]
    headers = {"content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {here.token()}"}
    for name, header in headers.items():
        command += ["-H", f"{name}: {header}"]
    url = f"{here.gateway['url']}/inference.GRPCInferenceService/ModelInfer"
    shown = subprocess.run([*command, f"--log-file={log}", url], capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    log.unlink()
    took = [int(fields[2]) / 1000 for fields in lines if fields[1] == "200"]
    if not took or len(took) < len(lines):
        sys.exit(f"{len(lines) - len(took)} of {len(lines)} requests failed\n{shown}")
    return len(took) / seconds, quantile(took, 0.5), quantile(took, 0.99)


def main() -> None:
    """Measure several rounds, in process and through the gateway in turn, and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="how long each figure is measured")
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is missing; on Debian: apt-get install nghttp2-client")
    limits: list[dict[int, float]] = []
    through: list[tuple[int, tuple[float, float, float]]] = []
    with tempfile.TemporaryDirectory() as scratch, installed(Path(scratch) / "home") as here:
        limits.append(in_process(options.seconds / 4))
        for count in CLIENTS * options.rounds:
            through.append((count, through_gateway(here, Path(scratch), count, options.seconds)))
            limits.append(in_process(options.seconds / 4))
    typical = {size: statistics.median(rates[size] for rates in limits) for size in limits[0]}
    best = max(typical, key=lambda size: typical[size])
    rows: list[dict[str, object]] = [
        {"row": f"in process, batch {size}", "clients": "", "items_s": rate} for size, rate in typical.items()
    ]
    ratios = {}
    for count in CLIENTS:
        figures = [found for clients, found in through if clients == count]
        rate, p50, p99 = (statistics.median(column) for column in zip(*figures, strict=True))
        rows.append({"row": "through the gateway", "clients": count, "items_s": rate, "p50_ms": p50, "p99_ms": p99})
        ratios[f"{count} clients / best in process"] = statistics.median(
            2 * found[0] / (before[best] + after[best])
            for (clients, found), before, after in zip(through, limits, limits[1:], strict=False)
            if clients == count
        )
    write_results("engine", rows, ratios)


if __name__ == "__main__":
    main()
