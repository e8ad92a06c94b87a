"""Graphs that end the process that opens or runs them, or fill its memory: the engine says so and goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import EngineError, ModelCrashedError, ModelFileError, ModelLoadError
from engine.repository.repository import Repository
from engine.runtime.apart import Apart
from tests.unit.engine.graphs import doubling, folder, model
from tests.unit.engine.shelf import MODEL, Shelf

LONG = (TensorProto.INT64, ["n"])
SMALLEST = -(2**63)


def dividing(divisor: np.ndarray | None = None, kind: int = TensorProto.INT64) -> bytes:
    """y = x / z, or by a constant."""
    inputs = {"x": (kind, ["n"])} | ({} if divisor is not None else {"z": (kind, ["n"])})
    weights = {} if divisor is None else {"z": divisor}
    return model([helper.make_node("Div", ["x", "z"], ["y"], name="halve")], inputs, {"y": (kind, ["n"])}, weights)


def crashing() -> bytes:
    """The smallest number there is by -1, which the runtime computes when it opens the graph."""
    nodes = [helper.make_node("Div", ["a", "b"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    return model(nodes, {"x": LONG}, {"y": LONG}, {"a": np.array([SMALLEST]), "b": np.array([-1])})


def billion() -> bytes:
    """A constant of a billion numbers, in two hundred bytes."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    x = {"x": (TensorProto.FLOAT, ["n"])}
    return model(nodes, x, {"y": x["x"]}, {"s": np.array([10**9])})


def doubling_functions(depth: int) -> bytes:
    """Functions that each call the one before twice: 2^depth steps once they are written out."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], opsets)]
    for at in range(1, depth):
        calls = [
            helper.make_node(f"F{at - 1}", ["a"], ["c"], domain="own"),
            helper.make_node(f"F{at - 1}", ["c"], ["b"], domain="own"),
        ]
        functions.append(helper.make_function("own", f"F{at}", ["a"], ["b"], calls, opsets))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    last = helper.make_node(f"F{depth - 1}", ["x"], ["y"], domain="own")
    graph = helper.make_graph([last], "g", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)
    return made.SerializeToString()


async def refusal(where: Path, content: bytes, apart: Apart | None = None) -> EngineError | None:
    """What is said of a graph; None where it may be opened."""
    try:
        await (apart or Apart()).check(folder(where, "", model=content))
    except EngineError as error:
        return error
    return None


async def test_a_graph_that_ends_its_process_is_one_clear_error(tmp_path: Path):
    error = await refusal(tmp_path, crashing())
    assert isinstance(error, ModelCrashedError)
    assert "model.onnx: ends the process that opens it (SIGFPE)" in error.message


async def test_a_constant_of_a_billion_numbers_is_refused_within_bounded_memory(tmp_path: Path):
    error = await refusal(tmp_path, billion())
    assert isinstance(error, ModelFileError)
    assert "model.onnx: takes more than 3072 MiB of memory" in error.message


async def test_functions_that_call_each_other_without_measure_are_ended(tmp_path: Path):
    began = time.monotonic()
    error = await refusal(tmp_path, doubling_functions(40), Apart(limit_s=4.0, memory_bytes=256 << 20))
    assert isinstance(error, (ModelLoadError, ModelFileError, ModelCrashedError))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (dividing(), True),
        (dividing(np.array([2, -1])), True),
        (dividing(np.array([2])), False),
        (dividing(kind=TensorProto.FLOAT), False),
        (dividing(kind=TensorProto.INT32), True),
        (dividing(kind=TensorProto.INT16), False),
        (dividing(kind=TensorProto.INT8), False),
        (dividing(kind=TensorProto.UINT32), False),
        (dividing(kind=TensorProto.UINT64), False),
    ],
    ids=["by an input", "by minus one", "by two", "floats", "32 bits", "16 bits", "8 bits", "32 plain", "64 plain"],
)
async def test_a_division_that_can_end_the_process_is_refused_by_name(tmp_path: Path, content: bytes, refused: bool):
    error = await refusal(tmp_path, content)
    if not refused:
        assert error is None
        return
    assert isinstance(error, ModelFileError)
    assert "its step 'halve' divides whole numbers by what may be -1" in error.message


DIVIDE = """
import sys
import numpy as np
from onnx import TensorProto, helper
from engine.runtime.onnx import onnxruntime
from tests.unit.engine.graphs import model

def divide(step, name, **how):
    kind, dtype = getattr(TensorProto, name), np.dtype(name.lower())
    one = (kind, ["n"])
    content = model([helper.make_node(step, ["x", "z"], ["y"], **how)], {"x": one, "z": one}, {"y": one})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    # 64 at once, and three of them by themselves
    session.run(None, {"x": np.full(67, least, dtype), "z": np.full(67, -1 if least else most, dtype)})

narrow = [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
if sys.argv[1:]:
    divide(*sys.argv[1:])
for name in narrow:
    divide("Mod", name)
    divide("Mod", name, fmod=1)
    if name not in ("INT32", "INT64"):
        divide("Div", name)
"""


@pytest.mark.parametrize(
    ("asked", "code"),
    [((), 0), (("Div", "INT32"), -signal.SIGFPE), (("Div", "INT64"), -signal.SIGFPE)],
    ids=["all others", "32 bits", "64 bits"],
)
def test_only_divisions_that_are_looked_for_end_the_process(asked: tuple[str, ...], code: int):
    ran = subprocess.run(
        [sys.executable, "-c", DIVIDE, *asked],
        capture_output=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert ran.returncode == code, ran.stderr[-2000:]


async def test_lengths_are_divided_by_lengths(tmp_path: Path):
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "second"], ["width"]),
        helper.make_node("Gather", ["shape", "first"], ["height"]),
        helper.make_node("Div", ["width", "height"], ["y"]),
    ]
    where = {"first": np.array([0]), "second": np.array([1])}
    content = model(nodes, {"x": (TensorProto.FLOAT, ["n", "m"])}, {"y": (TensorProto.INT64, [1])}, where)
    assert await refusal(tmp_path, content) is None


async def test_who_is_cancelled_leaves_no_process_behind(tmp_path: Path):
    task = asyncio.create_task(Apart().check(folder(tmp_path, "", model=doubling_functions(40))))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


def forget_to_try(repository: Repository) -> None:
    """As an engine did that tried nothing first."""
    repository._loading._apart = None


async def test_a_push_that_crashes_leaves_the_version_before_it_answering(shelf: Shelf):
    repository = await shelf.started(apart=Apart())
    await shelf.push(repository)
    with pytest.raises(ModelCrashedError):
        await shelf.push(repository, content=crashing())
    assert repository.versions_of(MODEL) == [1]
    answer = await (await repository.found("t", "m", "")).infer({"x": np.ones((1, 2), np.float32)})
    assert answer.outputs["y"].tolist() == [[2.0, 2.0]]


async def test_what_was_being_loaded_when_the_engine_ended_is_tried_apart_first(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    await shelf.push(repository, "tenants/t/models/other")
    await repository.stop()
    path = next((shelf.root / "models" / "t" / "m").rglob("model.onnx"))
    path.write_bytes(crashing())  # a runtime that was replaced meanwhile finds it so
    marks = shelf.root / "models" / ".loading-engine"
    marks.mkdir(exist_ok=True)
    (marks / f"{MODEL}/versions/1".replace("/", ":")).touch()
    again = await shelf.started(apart=Apart())
    entry = (await again._records.versions_of(MODEL))[1]
    assert again.state(entry) == "FAILED"
    assert "ends the process that opens it" in entry.body.failure
    answer = await (await again.found("t", "other", "")).infer({"x": np.ones((1, 2), np.float32)})
    assert answer.outputs["y"].tolist() == [[2.0, 2.0]]
    assert list(marks.iterdir()) == []


async def test_what_loads_leaves_no_mark(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, content=doubling(["n", 2]))
    await repository.stop()
    await shelf.started()
    assert not list((shelf.root / "models" / ".loading-engine").glob("*"))
