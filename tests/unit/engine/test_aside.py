"""Other calls go on while a large request is taken apart, and what is refused is not taken apart at all."""

from __future__ import annotations

import asyncio
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from inference import grpc_service_pb2 as pb
from prometheus_client import CollectorRegistry

from engine.errors import TensorError
from engine.manifest import parse_manifest
from engine.metrics import EngineMetrics
from engine.oip.shared_memory import Regions
from engine.repository.loaded import Loaded
from engine.scheduler.aside import aside
from engine.servables import Embedder, Inference
from engine.servicers.inference import InferenceServicer
from engine.tensor import TensorSpec
from mesh.identity import Caller, set_caller
from tests.unit.engine.graphs import context_of

MODEL = Path(__file__).parents[3] / ".models" / "all-minilm-l6-v2" / "1"
MANY = 300_000


class Echo:
    """Gives its texts back, and remembers how often it was asked."""

    inputs = (TensorSpec("text", "BYTES", (-1,)), TensorSpec("number", "FP32", (1,)))
    outputs = (TensorSpec("text", "BYTES", (-1,)), TensorSpec("number", "FP32", (1,)))
    asked = 0

    async def infer(self, tensors, terms=None) -> Inference:
        self.asked += 1
        return Inference({"text": tensors["text"], "number": np.ones(1, np.float32)}, 1)


class One:
    """Has one model."""

    def __init__(self, servable) -> None:
        figures = EngineMetrics(CollectorRegistry()).of("tenants/t/models/m", 1)
        self._loaded = Loaded("tenants/t/models/m/versions/1", "tenants/t/models/m", 1, servable, None, figures)

    async def found(self, *_asked) -> Loaded:
        return self._loaded


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def servicer(echo):
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    yield InferenceServicer(One(echo), None, Regions("off"), None)
    set_caller(None)


def asking(raw: bytes, shape: list[int], datatype: str = "BYTES", name: str = "text") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


async def turns_during(work) -> int:
    """How often another task had its turn while some work was done."""
    turns, over = 0, False

    async def other() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await work
    over = True
    await task
    return turns


async def test_little_work_is_done_here_and_much_in_a_thread():
    here = threading.get_ident()
    assert await aside(10, threading.get_ident) == here
    assert await aside(10_000, threading.get_ident) != here


async def test_other_calls_go_on_while_many_elements_are_taken_apart_and_put_together(servicer):
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="text", datatype="BYTES", shape=[MANY]).contents.bytes_contents.extend([b"a"] * MANY)
    for request in (asking(struct.pack("<I1s", 1, b"a") * MANY, [MANY]), typed):
        assert await turns_during(servicer.ModelInfer(request, None)) > 10


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asking(b"\xff" * 16, [2], name="number"), "the model wants FP32, BYTES was sent"),
        (asking(b"\xff" * 16, [2], name="other"), "no such input of BYTES; it takes text, number"),
        (asking(b"\xff" * 16, [2, 1]), r"wants shape \[-1\]"),
        (asking(b"\xff" * 16, [-2]), "a length is never negative"),
        (asking(b"\xff" * 16, [2]), "runs past the end"),
    ],
)
async def test_bytes_that_the_model_does_not_take_are_not_taken_apart(servicer, request_, words: str):
    with pytest.raises(TensorError, match=words):
        await servicer.ModelInfer(request_, None)


async def test_what_is_asked_for_is_checked_before_the_model_is(servicer, echo):
    for names, words in ((["text", "text"], "is asked for twice"), (["text", "other"], "it gives text, number")):
        request = asking(struct.pack("<I1s", 1, b"a"), [1])
        for name in names:
            request.outputs.add(name=name)
        with pytest.raises(TensorError, match=words):
            await servicer.ModelInfer(request, None)
    request = asking(b"", [0])
    for at in range(5000):
        request.inputs.add(name=f"i{at}", datatype="FP32", shape=[0])
    with pytest.raises(TensorError, match="5001 inputs; at most 4096"):
        await servicer.ModelInfer(request, None)
    assert echo.asked == 0
    request = asking(struct.pack("<I1s", 1, b"a"), [1])
    request.outputs.add(name="number")
    assert [output.name for output in (await servicer.ModelInfer(request, None)).outputs] == ["number"]


class Tokenizer:
    """A tokenizer that remembers the threads it worked in."""

    def __init__(self, real) -> None:
        self._real = real
        self.threads: list[int] = []

    def encode_batch(self, texts):
        self.threads.append(threading.get_ident())
        return self._real.encode_batch(texts)


async def test_how_much_text_there_is_decides_where_tokens_are_made():
    manifest = parse_manifest((MODEL / "model.yaml").read_bytes(), model="all-minilm-l6-v2")
    made = Embedder(context_of(MODEL, manifest))
    made._tokenizer = recorded = Tokenizer(made._tokenizer)
    here = threading.get_ident()
    for texts in (["a few words"] * 10, ["many words " * 1000], ["a"] * 200):
        await made.embed(texts)
    made.close()
    assert [thread == here for thread in recorded.threads] == [True, False, False]
