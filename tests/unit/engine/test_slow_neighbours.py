"""What a model that computes for half a minute costs those who ask others: little, as a quantile of the same load."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import InferenceTimeoutError
from engine.runtime.budget import CoreBudget
from engine.runtime.sessions import SessionSettings, cores
from engine.servables import OnnxModel
from tests.unit.engine.graphs import doubling, endless, heavy, model, opened
from tests.unit.engine.test_hostile_models import ROW

MANIFEST = "name: m\nkind: onnx\n"
ASKED = 100


def multiplying(size: int = 512) -> bytes:
    """As many products of matrices as one waits for, on all cores."""
    x, flag, step = (TensorProto.FLOAT, ["n", 2]), (TensorProto.BOOL, []), (TensorProto.INT64, [])
    square = (TensorProto.FLOAT, [size, size])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["goes_on"]), helper.make_node("MatMul", ["v", "w"], ["u"])],
        "body",
        [helper.make_tensor_value_info(name, *of) for name, of in (("step", step), ("on", flag), ("v", square))],
        [helper.make_tensor_value_info(name, *of) for name, of in (("goes_on", flag), ("u", square))],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "always", "w"], ["z"], body=body),
        helper.make_node("ReduceMax", ["z"], ["most"], keepdims=0),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    weights = {"steps": np.array(2**62), "always": np.array(True), "w": np.eye(size, dtype=np.float32)}
    return model(nodes, {"x": x}, {"y": x}, weights)


async def quantiles(asked: OnnxModel) -> tuple[float, float]:
    """The p50 and the p99 of requests that come one after the other, seconds."""
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        await asked.infer(ROW)
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.001)
    return tuple(np.percentile(took, [50, 99]))


@pytest.mark.parametrize("slow", [endless(["n", 2]), multiplying()], ids=["one core", "all cores"])
@pytest.mark.parametrize("others", [doubling(["n", 2]), heavy(24)], ids=["a tiny model", "a model of 24 MB"])
async def test_others_p50_and_p99_are_bounded_while_a_model_computes_for_ever(
    tmp_path: Path, slow: bytes, others: bytes
):
    settings = SessionSettings(max_run_s=30.0, budget=CoreBudget(cores()))
    asked = opened(tmp_path / "asked", MANIFEST, settings, model=others)
    busy = opened(tmp_path / "busy", MANIFEST + "batching: off\n", settings, model=slow)
    p50, p99 = await quantiles(asked)
    for_ever = [asyncio.create_task(busy.infer(ROW)) for _ in range(3)]  # one computes, two wait for it
    await asyncio.sleep(0.3)
    p50_then, p99_then = await quantiles(asked)
    assert not any(task.done() for task in for_ever)
    assert p50_then < 4 * p50 + 0.005
    assert p99_then < 4 * p99 + 0.1
    for task in for_ever:
        task.cancel()
    began = time.monotonic()
    await asyncio.to_thread(busy.close)
    assert time.monotonic() - began < 15
    await asyncio.gather(*for_ever, return_exceptions=True)
    asked.close()


async def test_who_waits_for_it_is_told_in_time_and_it_ends_when_its_own_time_is_over(tmp_path: Path):
    settings = SessionSettings(max_run_s=0.5, budget=CoreBudget(cores()))
    busy = opened(tmp_path, MANIFEST + "batching: off\n", settings, model=multiplying())
    began = time.monotonic()
    with pytest.raises(InferenceTimeoutError, match=r"computed for 0\.5 s without an answer and was stopped"):
        await busy.infer(ROW)
    assert 0.4 < time.monotonic() - began < 3
    busy.close()
