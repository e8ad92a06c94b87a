"""MiniLM, 32 token ids a row: the same ids in process and through the gateway, by 1, 8 and 32 clients."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import quantile, write_results
from tests.fakes.installed import CLONE, installed

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
    from engine.sessions import SessionSettings, open_session

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


def clients(address: str, ca: bytes, token: str, count: int, seconds: float, results: Any) -> None:
    """That many clients, each one request at a time, in a process of their own."""
    import grpc
    from inference import grpc_service_pb2, grpc_service_pb2_grpc

    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(ca), grpc.access_token_call_credentials(token)
    )
    with grpc.secure_channel(address, credentials) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def request(seed: int) -> grpc_service_pb2.ModelInferRequest:
            made = grpc_service_pb2.ModelInferRequest(model_name="all-minilm-l6-v2")
            for name, value in (("input_ids", ids(seed, 1)), ("attention_mask", np.ones((1, LENGTH), np.int64))):
                made.inputs.add(name=name, datatype="INT64", shape=[1, LENGTH])
                made.raw_input_contents.append(value.tobytes())
            return made

        def work(seed: int) -> list[float]:
            asked, took = request(seed), []
            for _ in range(5):
                stub.ModelInfer(asked)
            end = time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                stub.ModelInfer(asked)
                took.append((time.perf_counter() - began) * 1000)
            return took

        with ThreadPoolExecutor(count) as pool:
            results.put([took for each in pool.map(work, range(count)) for took in each])


def main() -> None:
    """Measure several rounds, in process and through the gateway in turn, and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each figure is measured")
    options = parser.parse_args()
    process = multiprocessing.get_context("spawn")
    limits: dict[int, list[float]] = {}
    through: dict[int, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch, installed(Path(scratch) / "home") as here:
        for _ in range(options.rounds):
            for rows, rate in in_process(options.seconds / 2).items():
                limits.setdefault(rows, []).append(rate)
            for count in CLIENTS:
                results = process.Queue()
                arguments = (
                    here.address,
                    (here.home / "ca.pem").read_bytes(),
                    here.token(),
                    count,
                    options.seconds,
                    results,
                )
                worker = process.Process(target=clients, args=arguments)
                worker.start()
                took = results.get(timeout=120)
                worker.join()
                figures = (len(took) / options.seconds, quantile(took, 0.5), quantile(took, 0.99))
                through.setdefault(count, []).append(figures)
    rows: list[dict[str, object]] = [
        {"row": f"in process, batch {size}", "clients": "", "items_s": statistics.median(rates)}
        for size, rates in limits.items()
    ]
    for count, figures in through.items():
        rate, p50, p99 = (statistics.median(column) for column in zip(*figures, strict=True))
        rows.append({"row": "through the gateway", "clients": count, "items_s": rate, "p50_ms": p50, "p99_ms": p99})
    best = max(statistics.median(rates) for rates in limits.values())
    ratios = {
        f"{count} clients / best in process": statistics.median(f[0] for f in figures) / best
        for count, figures in through.items()
    }
    write_results("engine", rows, ratios)


if __name__ == "__main__":
    main()
