"""MiniLM on a device: rows a second of the runtime alone at its best batch, and of the engine's classes.

Requests have several rows: what one row of a small encoder costs a GPU is less than any request costs a processor, and
the device shall be what is full.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from inference import grpc_service_pb2
from prometheus_client import CollectorRegistry

from bench.serving.load import ROOT
from bench.serving.workloads import ENCODER, Bodies, Workload, feeds_of
from engine.manifest import EmbeddingManifest, parse_manifest
from engine.metrics import EngineMetrics
from engine.runtime.sessions import SessionSettings, open_session
from engine.scheduler.policy import BatchPolicy
from engine.servables import Embedder, ModelContext

__all__ = ["CLIENTS", "MAX_BATCH", "ROWS", "WORKLOADS", "bodies_of", "classes_rate", "limit_rate"]

FOLDER = ROOT / ".models" / ENCODER / "1"
ROWS, CLIENTS = 16, 32
_SIZES = (16, 32, 64, 128, 256)
MAX_BATCH = 256

WORKLOADS = (
    Workload("MiniLM, 32 tokens", ENCODER, (32,), (CLIENTS,)),
    Workload("MiniLM, 128 tokens", ENCODER, (128,), (CLIENTS,)),
)


def limit_rate(settings: SessionSettings, workload: Workload, seconds: float) -> float:
    """Rows a second of the runtime alone at its best batch."""
    session = open_session(FOLDER / "model.onnx", settings)
    best = 0.0
    for size in _SIZES:
        feeds = feeds_of(workload, [*workload.lengths] * size)
        session.run(feeds)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / len(_SIZES):
            session.run(feeds)
            done += size
        best = max(best, done / (time.perf_counter() - began))
    session.close()
    return best


async def classes_rate(settings: SessionSettings, workload: Workload, seconds: float) -> float:
    """Rows a second of the engine's classes, asked by many at once."""
    manifest = parse_manifest((FOLDER / "model.yaml").read_bytes(), model=ENCODER)
    if not isinstance(manifest, EmbeddingManifest):
        raise TypeError("the encoder that ships is no encoder")
    figures = EngineMetrics(CollectorRegistry()).of(f"tenants/system/models/{ENCODER}", 1)
    limits = BatchPolicy(MAX_BATCH, 4096)
    model = await asyncio.to_thread(Embedder, ModelContext(FOLDER, manifest, settings, limits, figures))
    feeds = feeds_of(workload, [*workload.lengths] * ROWS)
    until = time.perf_counter() + seconds / 4
    done = 0

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await model.infer(feeds)
            done += ROWS

    try:
        await asyncio.gather(*(one() for _ in range(CLIENTS)))  # once to warm up
        done, began = 0, time.perf_counter()
        until = began + seconds
        await asyncio.gather(*(one() for _ in range(CLIENTS)))
        return done / (time.perf_counter() - began)
    finally:
        await asyncio.to_thread(model.close)


def bodies_of(folder: Path, workload: Workload) -> Bodies:
    """The request that the whole engine is asked, as a file."""
    request = grpc_service_pb2.ModelInferRequest(model_name=ENCODER)
    for name, value in feeds_of(workload, [*workload.lengths] * ROWS).items():
        request.inputs.add(name=name, datatype="INT64", shape=value.shape)
        request.raw_input_contents.append(value.tobytes())
    path = folder / f"{workload.lengths[0]}.message"
    path.write_bytes(request.SerializeToString())
    return Bodies((path,), ())
