"""Labels for texts by a head on a text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from engine.manifest import ClassificationManifest
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.backbone import EncoderBacked, Standing
from engine.servables.base import Classified, Inference, Items, Servable, Tensors, check_tensors
from engine.servables.embedder import Embedder
from engine.servables.head import Head
from engine.servables.tokens import TEXT, texts_of
from engine.tensor import TensorSpec

__all__ = ["EncoderClassifier"]


class EncoderClassifier(EncoderBacked[Head]):
    """A head on an embedder: `text` BYTES [n] to `label` BYTES [n] and `score` FP32 [n]."""

    inputs = (TEXT,)
    outputs = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,)))
    classifies: Items = "texts"

    def __init__(self, manifest: ClassificationManifest, backbone: Callable[[], Servable]) -> None:
        self._standing = Standing(manifest.backbone, backbone, partial(_make_head, manifest))

    @staticmethod
    async def build(manifest: ClassificationManifest, backbone: Callable[[], Servable]) -> EncoderClassifier:
        """Compute the vectors of the examples and make the head.

        Args:
            manifest: with the examples.
            backbone: gives the embedder as it is loaded now.

        Raises:
            BackboneError: the backbone is no text encoder.
        """
        made = EncoderClassifier(manifest, backbone)
        await made._standing.get()
        return made

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Labels and scores."""
        check_tensors(self.inputs, tensors)
        found = await self.classify(texts_of(tensors["text"]), terms)
        return found.answer()

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for texts."""
        embedder, head = await self._standing.get()
        vectors, tokens = await embedder.embed(values, terms)
        labels, scores, all_scores = head.classify(vectors)
        return Classified(labels, scores, head.labels, all_scores, tokens)


async def _make_head(manifest: ClassificationManifest, embedder: Embedder) -> Head:
    examples, _ = await embedder.embed([example.text for example in manifest.examples])
    others, _ = await embedder.embed(list(manifest.others))
    return Head(manifest, examples, others)
