"""The model that ships with the platform: golden embeddings in any batch, and a head that knows its limits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

from engine.errors import ElementError, TensorError
from engine.manifest import parse_manifest
from engine.servables import Embedder, EncoderClassifier
from tests.unit.engine.graphs import context_of

CLONE = Path(__file__).parents[3]
MODEL = CLONE / ".models" / "all-minilm-l6-v2" / "1"
GOLDEN = json.loads((CLONE / "tests" / "data" / "minilm_golden.json").read_text())
EXAMPLE = CLONE / "examples" / "support-triage"


@pytest.fixture(scope="module")
def embedder():
    manifest = parse_manifest((MODEL / "model.yaml").read_bytes(), model="all-minilm-l6-v2")
    made = Embedder(context_of(MODEL, manifest))
    yield made
    made.close()


def texts(values) -> dict[str, np.ndarray]:
    data = np.empty(len(values), object)
    data[:] = [value.encode() for value in values]
    return {"text": data}


def cosines(found, wanted) -> np.ndarray:
    wanted = np.array(wanted, np.float32)
    return (found * wanted).sum(axis=1) / np.linalg.norm(wanted, axis=1)


async def test_embeddings_match_the_golden_ones_together_alone_and_among_others(embedder):
    golden = GOLDEN["texts"]
    together = (await embedder.infer(texts(golden))).outputs["embedding"]
    assert together.dtype == np.float32
    assert together.shape == (len(golden), 384)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert cosines(together, GOLDEN["embeddings"]).min() >= 0.9999
    alone = await asyncio.gather(*(embedder.infer(texts([text])) for text in golden))
    assert cosines(np.concatenate([each.outputs["embedding"] for each in alone]), GOLDEN["embeddings"]).min() >= 0.9999


async def test_no_texts_are_no_embeddings_and_many_are_cut_into_batches(embedder):
    assert (await embedder.infer(texts([]))).outputs["embedding"].shape == (0, 384)
    assert (await embedder.infer(texts(["a"] * 50))).outputs["embedding"].shape == (50, 384)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"txt": np.array([b"a"], object)},
        {"text": np.array([[b"a"]], object)},
        {"text": np.array([1.0], np.float32)},
        {"text": np.array([b"\xff"], object)},
        {"input_ids": np.ones((1, 4), np.int64)},
        {"input_ids": np.ones((1, 4), np.int64), "attention_mask": np.ones((1, 5), np.int64)},
        {"input_ids": np.ones((1, 999), np.int64), "attention_mask": np.ones((1, 999), np.int64)},
        {"input_ids": np.ones((9, 0), np.int64), "attention_mask": np.ones((9, 0), np.int64)},
        {"input_ids": np.ones((1025, 2), np.int64), "attention_mask": np.ones((1025, 2), np.int64)},
    ],
)
async def test_wrong_inputs_are_refused_by_name(embedder, tensors):
    with pytest.raises((TensorError, ElementError)):
        await embedder.infer(tensors)


@pytest.mark.parametrize("value", [2, -999_999_999, 2**62])
async def test_a_mask_holds_ones_and_zeros_and_its_ones_are_what_is_counted(embedder, value: int):
    ids, mask = np.full((2, 4), 101, np.int64), np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int64)
    assert (await embedder.infer({"input_ids": ids, "attention_mask": mask})).tokens == 5
    mask[1, 3] = value
    with pytest.raises(TensorError, match="neither 0 nor 1"):
        await embedder.infer({"input_ids": ids, "attention_mask": mask})


async def test_a_text_of_which_nothing_is_left_has_a_vector_too():
    manifest = parse_manifest((MODEL / "model.yaml").read_bytes(), model="all-minilm-l6-v2")
    made = Embedder(context_of(MODEL, manifest))
    made._tokenizer.post_processor = TemplateProcessing("$A", "$A $B", [])  # no special tokens around it
    answer = await made.infer(texts([""]))
    made.close()
    assert answer.tokens == 0
    assert np.isfinite(answer.outputs["embedding"]).all()


async def test_the_examples_head_routes_clear_messages_and_doubts_the_others(embedder):
    manifest = parse_manifest((EXAMPLE / "support-intents" / "model.yaml").read_bytes(), model="support-intents")
    head = await EncoderClassifier.build(manifest, lambda: embedder)
    messages = json.loads((EXAMPLE / "messages.json").read_text())
    answer = await head.infer(texts([message["message"] for message in messages]))
    assert answer.outputs["score"].dtype == np.float32
    assert ((answer.outputs["score"] >= 0) & (answer.outputs["score"] <= 1)).all()
    sure = answer.outputs["score"] >= 0.5
    human = np.array([message["expected_queue"] == "human" for message in messages])
    assert (sure != human).mean() >= 0.9
