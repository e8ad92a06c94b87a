"""A large request goes in a few pieces at a time: others come in between, and nothing runs for nobody."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import InputRefusedError, ModelNotReadyError, TensorError
from engine.manifest import parse_manifest
from engine.scheduler.batcher import Batcher
from engine.scheduler.pieces import in_turn
from engine.scheduler.policy import BatchPolicy
from engine.servables import Embedder, EncoderClassifier
from tests.unit.engine.graphs import context_of, model, opened

MODEL = Path(__file__).parents[3] / ".models" / "all-minilm-l6-v2" / "1"
HEAD = b"""
name: h
kind: text-classification
backbone: all-minilm-l6-v2
examples: [{text: I was charged twice, label: billing}, {text: The app crashes, label: bug}]
"""
FULL = "at most 1024 are taken at once"


class Counted:
    """Counts the batches."""

    batches = 0

    def queue(self, *_figures) -> None:
        return

    def batch(self, *_figures) -> None:
        self.batches += 1

    def answered(self, *_figures) -> None:
        return


@pytest.fixture(scope="module")
def counted():
    return Counted()


@pytest.fixture(scope="module")
def embedder(counted):
    """An encoder of two rows a run, whose queue has room for 64."""
    made = opened_encoder(counted)
    yield made
    made.close()


def opened_encoder(counted: Counted) -> Embedder:
    manifest = parse_manifest((MODEL / "model.yaml").read_bytes(), model="all-minilm-l6-v2")
    return Embedder(context_of(MODEL, manifest, BatchPolicy(2, 64), counted))


def texts(number: int) -> dict[str, np.ndarray]:
    return {"text": np.array([b"a"] * number, object)}


async def test_results_come_in_order_and_only_two_are_under_way():
    under_way, most = 0, 0

    async def work(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number % 3))
        under_way -= 1
        return number * 2

    assert await in_turn(range(20), work) == [number * 2 for number in range(20)]
    assert most == 2
    assert await in_turn([], work) == []


async def test_after_a_failure_no_piece_is_begun_and_none_goes_on():
    begun, ended = [], []

    async def work(number: int) -> None:
        begun.append(number)
        try:
            if number == 3:
                raise InputRefusedError("unlucky")
            await asyncio.sleep(0.01 if number < 3 else 30)
        finally:
            ended.append(number)

    with pytest.raises(InputRefusedError, match="unlucky"):
        await in_turn(range(100), work)
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 5


async def test_another_callers_request_is_next_but_one():
    order: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    def run(items):
        entered.set()
        go_on.wait(10)
        order.extend(items)
        return items

    made = Batcher(run, name="test", policy=BatchPolicy(4, 8))
    large = asyncio.create_task(in_turn(["large"] * 30, lambda piece: made.submit(piece, rows=4)))
    await asyncio.to_thread(entered.wait, 5)
    small = asyncio.create_task(made.submit("small", rows=1))
    await asyncio.sleep(0.02)
    go_on.set()
    await asyncio.gather(large, small)
    made.close()
    assert order.index("small") <= 2
    assert len(order) == 31


async def test_a_large_request_that_is_begun_is_answered_before_the_model_closes():
    def run(items):
        entered.set()
        go_on.wait(10)
        return items

    entered, go_on = threading.Event(), threading.Event()
    made = Batcher(run, name="test", policy=BatchPolicy(4, 8))

    async def large() -> list[int]:
        with made.begun():
            return await in_turn(range(10), lambda piece: made.submit(piece, rows=4))

    asked = asyncio.create_task(large())
    await asyncio.to_thread(entered.wait, 5)
    closing = asyncio.create_task(asyncio.to_thread(made.close))
    await asyncio.sleep(0.05)
    go_on.set()
    assert await asked == list(range(10))
    await closing
    for late in (made.submit(1, rows=1), large()):
        with pytest.raises(ModelNotReadyError):
            await late


async def test_an_encoder_closes_after_the_texts_that_it_was_given():
    made = opened_encoder(Counted())
    asked = asyncio.create_task(made.infer(texts(60)))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(made.close)
    assert (await asked).rows == 60


async def test_many_texts_go_through_a_short_queue(embedder):
    assert (await embedder.infer(texts(200))).rows == 200


async def test_many_rows_go_through_a_short_queue_one_by_one(tmp_path: Path):
    table = (TensorProto.FLOAT, ["n", 3])
    content = model([helper.make_node("Softmax", ["x"], ["y"], axis=1)], {"x": table}, {"y": table})
    made = opened(
        tmp_path, "name: m\nkind: onnx\nbatching: 'off'\nprobabilities: y\nlabels: [a, b, c]\n", model=content
    )
    rows = np.eye(3)[np.arange(200) % 3].tolist()
    assert (await made.classify(rows)).labels == [("a", "b", "c")[at % 3] for at in range(200)]
    made.close()


async def test_texts_of_one_request_have_a_limit_that_is_said(embedder):
    head = await EncoderClassifier.build(parse_manifest(HEAD, model="h"), lambda: embedder)
    for servable in (embedder, head):
        with pytest.raises(TensorError, match=f"holds 1025 texts; {FULL}"):
            await servable.infer(texts(1025))


async def test_after_a_wrong_row_the_rest_of_its_request_is_not_computed(embedder, counted):
    ids = np.full((60, 4), 101, np.int64)
    ids[3] = 2**40  # no word of any vocabulary
    before = counted.batches
    with pytest.raises(InputRefusedError):
        await embedder.infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    await asyncio.sleep(0.2)
    assert counted.batches - before <= 4
    assert embedder.waiting == 0
