"""Heads on a text encoder that another version replaces: they always answer with vectors of one and the same."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from engine.errors import BackboneError, InferenceFailedError
from engine.manifest import parse_manifest
from engine.servables import Embedder, EncoderClassifier

MANIFEST = parse_manifest(
    b"""
name: m
kind: text-classification
backbone: b
examples:
  - {text: invoice, label: billing}
  - {text: crash, label: bug}
  - {text: hello, label: other}
""",
    model="m",
)


class Encoder(Embedder):
    """Gives each word an axis of its own; which one is the encoder's."""

    def __init__(self, *words: str, failures: int = 0) -> None:
        self.words, self.failures = words, failures
        self.asked: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def embed(self, texts, terms=None):
        self.asked.append(list(texts))
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise InferenceFailedError("not now")
        vectors = np.zeros((len(texts), len(self.words)), np.float32)
        for row, text in enumerate(texts):
            vectors[row, self.words.index(text)] = 1
        return vectors, len(texts)


class Serving:
    """What serves now."""

    def __init__(self, encoder) -> None:
        self.encoder = encoder

    def __call__(self):
        return self.encoder


EXAMPLES = ["invoice", "crash", "hello"]
LABELS = ["billing", "bug", "other"]


@pytest.mark.parametrize("words", [("hello", "invoice", "crash"), ("a", "b", "crash", "invoice", "hello")])
async def test_when_another_backbone_serves_the_head_is_made_anew_once_for_all_callers(words):
    serving = Serving(Encoder(*EXAMPLES))
    made = await EncoderClassifier.build(MANIFEST, serving)
    assert (await made.classify(EXAMPLES)).labels == LABELS
    serving.encoder = Encoder(*words)
    answers = await asyncio.gather(*(made.classify(EXAMPLES[:2]) for _ in range(20)))
    assert {tuple(answer.labels) for answer in answers} == {("billing", "bug")}
    assert serving.encoder.asked.count(EXAMPLES) == 1


async def test_a_caller_that_goes_does_not_take_the_new_head_with_it():
    serving = Serving(Encoder(*EXAMPLES))
    made = await EncoderClassifier.build(MANIFEST, serving)
    serving.encoder = Encoder("hello", "invoice", "crash")
    serving.encoder.open.clear()
    goes, stays = (asyncio.create_task(made.classify(["crash"])) for _ in range(2))
    await asyncio.sleep(0.01)
    goes.cancel()
    serving.encoder.open.set()
    assert (await stays).labels == ["bug"]
    assert serving.encoder.asked.count(EXAMPLES) == 1


async def test_a_head_that_could_not_be_made_is_made_for_the_next_caller():
    serving = Serving(Encoder(*EXAMPLES))
    made = await EncoderClassifier.build(MANIFEST, serving)
    serving.encoder = Encoder("hello", "invoice", "crash", failures=1)
    with pytest.raises(InferenceFailedError):
        await made.classify(["crash"])
    assert (await made.classify(["crash"])).labels == ["bug"]


async def test_a_backbone_that_is_no_text_encoder_any_more_is_said():
    serving = Serving(Encoder(*EXAMPLES))
    made = await EncoderClassifier.build(MANIFEST, serving)
    serving.encoder = object()
    with pytest.raises(BackboneError, match="backbone: `b` is no text encoder"):
        await made.classify(["crash"])
