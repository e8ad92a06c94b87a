"""Models of texts: encoders that make vectors, and heads on them that give labels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.errors import BackboneError, ElementError, ModelFileError, NoLabelsError, TensorError
from engine.manifest import ClassificationManifest, EmbeddingManifest
from engine.repository.folders import graph_file
from engine.runtime.sessions import Session, SessionSettings, open_session, release_memory
from engine.scheduler.aside import aside
from engine.scheduler.batcher import Batcher
from engine.scheduler.observer import BatchObserver, Computed
from engine.scheduler.pieces import in_turn
from engine.scheduler.terms import PLAIN, Terms
from engine.scheduler.twin import Twin
from engine.servables.base import BatchLimits, Classified, Inference, Items, Servable, Tensors, check_tensors
from engine.servables.graph import parted
from engine.servables.head import Head
from engine.tensor import Tensor, TensorSpec

__all__ = ["Classifier", "Embedder"]

_TEXT = TensorSpec("text", "BYTES", (-1,))
_TOKENS = (TensorSpec("input_ids", "INT64", (-1, -1)), TensorSpec("attention_mask", "INT64", (-1, -1)))
_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_MAX_TEXT_BYTES = 64 * 1024
_TEXT_COSTS = 32
"""To make tokens of a text takes as long as of so many characters, and of its own."""
_MAX_TEXTS = 1024
"""Texts, or rows of tokens, of one request; the contract of `Embed` and `Classify` has the same number."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Token ids and mask, int64 (n, s); the mask holds 1 for a token and 0 for what is none."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return int(np.count_nonzero(self.mask))


class Embedder:
    """A text encoder: `text` BYTES [n], or token ids, to `embedding` FP32 [n, d]."""

    platform = "onnxruntime"
    inputs = (_TEXT,)
    classifies: Items | None = None

    def __init__(
        self,
        folder: Path,
        manifest: EmbeddingManifest,
        settings: SessionSettings,
        limits: BatchLimits,
        observer: BatchObserver,
    ) -> None:
        self._manifest = manifest
        path, self.inferred = graph_file(folder, manifest.file)
        self._session = open_session(path, settings)
        names = {spec.name for spec in self._session.inputs}
        if not {"input_ids", "attention_mask"} <= names or names - {"input_ids", "attention_mask", "token_type_ids"}:
            raise ModelFileError(
                f"{path.name}: a text encoder takes input_ids and attention_mask, and this graph takes "
                f"{', '.join(sorted(names))}",
                file=path.name,
            )
        self._typed = "token_type_ids" in names
        self._tokenizer = _open_tokenizer(folder / manifest.tokenizer, manifest.max_tokens)
        self._limits = limits
        width = self._session.outputs[0].shape[-1]
        self.outputs = (TensorSpec("embedding", "FP32", (-1, width)),)
        self._twin = Twin(path, settings, self._run)
        self._batcher: Batcher[_Tokens, NDArray[np.float32]] = Batcher(
            partial(self._run, self._session),
            name=manifest.name,
            max_rows=limits.max_rows,
            max_waiting=limits.max_waiting,
            observer=observer,
            open_beside=self._twin.open,
        )

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The embeddings."""
        if "text" in tensors or not tensors or not set(tensors) <= {"input_ids", "attention_mask"}:
            check_tensors(self.inputs, tensors)
            vectors, read = await self.embed(_texts(tensors["text"]), terms)
            return Inference({"embedding": vectors}, len(vectors), read)
        check_tensors(_TOKENS, tensors)
        tokens = _Tokens(tensors["input_ids"], tensors["attention_mask"])
        self._check(tokens)
        vectors = await self._submit(tokens, terms)
        return Inference({"embedding": vectors}, len(vectors), tokens.count)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it makes vectors."""
        raise NoLabelsError("the model makes vectors of texts and gives no labels; ask it to embed")

    async def embed(self, texts: Sequence[str], terms: Terms = PLAIN) -> tuple[NDArray[np.float32], int]:
        """Vectors of texts, float32 (n, d), and how many tokens were read."""
        if not texts:
            return self._none(), 0
        tokens = await aside(sum(_TEXT_COSTS + len(text) for text in texts), self._tokens, texts)
        return await self._submit(tokens, terms), tokens.count

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._batcher.waiting

    def close(self) -> None:
        """Give its memory back."""
        self._batcher.close()
        self._session.close()
        self._twin.close()
        release_memory()

    def _check(self, tokens: _Tokens) -> None:
        """See that token ids and mask, int64 (n, s), go together and are what the model reads.

        Raises:
            TensorError: naming the one that is wrong.
        """
        rows, length = tokens.ids.shape
        if tokens.mask.shape != (rows, length) or not 1 <= length <= self._manifest.max_tokens:
            raise TensorError(
                "input_ids", f"must have the mask's shape and from 1 to {self._manifest.max_tokens} tokens a row"
            )
        if rows > _MAX_TEXTS:
            raise TensorError("input_ids", f"holds {rows} rows; at most {_MAX_TEXTS} are taken at once")
        if tokens.mask.min(initial=0) < 0 or tokens.mask.max(initial=0) > 1:
            raise TensorError("attention_mask", "holds a value that is neither 0 nor 1")

    async def _submit(self, tokens: _Tokens, terms: Terms) -> NDArray[np.float32]:
        """Compute, in pieces of at most a batch; requests of like length share one."""
        length = tokens.ids.shape[1]
        key = next((bucket for bucket in _BUCKETS if length <= bucket), length)
        size = self._limits.max_rows
        if not len(tokens.ids):
            return self._none()
        if len(tokens.ids) <= size:
            return await self._batcher.submit(tokens, rows=len(tokens.ids), key=key, terms=terms)
        pieces = [
            _Tokens(tokens.ids[at : at + size], tokens.mask[at : at + size]) for at in range(0, len(tokens.ids), size)
        ]
        with self._batcher.begun():
            vectors = await in_turn(
                pieces, lambda piece: self._batcher.submit(piece, rows=len(piece.ids), key=key, terms=terms)
            )
        return np.concatenate(vectors)

    def _none(self) -> NDArray[np.float32]:
        """The vectors of no texts, float32 (0, d)."""
        return np.zeros((0, self.outputs[0].shape[1]), np.float32)

    def _tokens(self, texts: Sequence[str]) -> _Tokens:
        encoded = self._tokenizer.encode_batch(list(texts))
        width = max(1, *(len(each.ids) for each in encoded))  # a tokenizer may make nothing of a text
        ids = np.zeros((len(encoded), width), np.int64)
        mask = np.zeros((len(encoded), width), np.int64)
        for row, each in enumerate(encoded):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
        return _Tokens(ids, mask)

    def _run(self, session: Session, requests: Sequence[_Tokens]) -> list[NDArray[np.float32]]:
        """One batch, padded to its longest request."""
        began = time.perf_counter()
        width = max(request.ids.shape[1] for request in requests)
        rows = [len(request.ids) for request in requests]
        ids, mask = np.zeros((sum(rows), width), np.int64), np.zeros((sum(rows), width), np.int64)
        at = 0
        for request, count in zip(requests, rows, strict=True):
            ids[at : at + count, : request.ids.shape[1]] = request.ids
            mask[at : at + count, : request.mask.shape[1]] = request.mask
            at += count
        feeds: dict[str, Tensor] = {"input_ids": ids, "attention_mask": mask}
        if self._typed:
            feeds["token_type_ids"] = np.zeros_like(ids)
        output = session.outputs[0].name
        ready = time.perf_counter()
        outputs = session.run(feeds, [output])
        done = time.perf_counter()
        parts = parted({"v": self._pooled(outputs[output], mask)}, rows)
        return Computed((part["v"] for part in parts), input_s=ready - began, output_s=time.perf_counter() - done)

    def _pooled(self, tokens: Tensor, mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """One vector a row, float32 (n, d), from float32 (n, s, d)."""
        vectors = tokens
        if tokens.ndim == 3 and self._manifest.pooling == "cls":
            vectors = tokens[:, 0]
        elif tokens.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            vectors = (tokens * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        if self._manifest.normalise:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors, np.float32)


class Classifier:
    """A head on an embedder: `text` BYTES [n] to `label` BYTES [n] and `score` FP32 [n]."""

    platform = "tiation-head"
    inputs = (_TEXT,)
    outputs = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,)))
    inferred: tuple[str, ...] = ()
    classifies: Items = "texts"

    def __init__(self, manifest: ClassificationManifest, backbone: Callable[[], Servable]) -> None:
        self._manifest = manifest
        self._backbone = backbone
        self._embedder: Embedder | None = None
        self._making: asyncio.Task[Head] | None = None

    @staticmethod
    async def build(manifest: ClassificationManifest, backbone: Callable[[], Servable]) -> Classifier:
        """Compute the vectors of the examples and make the head.

        Args:
            manifest: with the examples.
            backbone: gives the embedder as it is loaded now.

        Raises:
            BackboneError: the backbone is no text encoder.
        """
        made = Classifier(manifest, backbone)
        await made._standing()
        return made

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Labels and scores."""
        check_tensors(self.inputs, tensors)
        found = await self.classify(_texts(tensors["text"]), terms)
        encoded = np.empty(len(found.labels), object)
        encoded[:] = [label.encode() for label in found.labels]
        return Inference({"label": encoded, "score": found.scores}, len(encoded), found.tokens)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for texts."""
        embedder, head = await self._standing()
        vectors, tokens = await embedder.embed(values, terms)
        labels, scores, all_scores = head.classify(vectors)
        return Classified(labels, scores, head.labels, all_scores, tokens)

    @property
    def waiting(self) -> int:
        """Nothing waits here; the backbone has the queue."""
        return 0

    def close(self) -> None:
        """Nothing to give back; the backbone stays."""

    async def _standing(self) -> tuple[Embedder, Head]:
        """The backbone that serves now, and the head whose vectors came from it.

        Where another backbone serves than before, the head is made anew, once for all who wait for it.
        """
        embedder = self._backbone()
        if not isinstance(embedder, Embedder):
            raise BackboneError(
                f"backbone: `{self._manifest.backbone}` is no text encoder", backbone=self._manifest.backbone
            )
        making = self._making
        if making is None or self._embedder is not embedder or (making.done() and _failed(making)):
            making = asyncio.get_running_loop().create_task(_make_head(self._manifest, embedder))
            making.add_done_callback(_failed)  # its error is read also where all who waited for it have gone
            self._embedder, self._making = embedder, making
        return embedder, await asyncio.shield(making)


async def _make_head(manifest: ClassificationManifest, embedder: Embedder) -> Head:
    examples, _ = await embedder.embed([example.text for example in manifest.examples])
    others, _ = await embedder.embed(list(manifest.others))
    return Head(manifest, examples, others)


def _failed(making: asyncio.Task[Head]) -> bool:
    return making.cancelled() or making.exception() is not None


def _texts(values: Tensor) -> list[str]:
    """The texts of an input.

    Raises:
        TensorError: there are too many.
        ElementError: one is not UTF-8, or far longer than any model reads.
    """
    if len(values) > _MAX_TEXTS:
        raise TensorError("text", f"holds {len(values)} texts; at most {_MAX_TEXTS} are taken at once")
    texts = []
    for at, value in enumerate(values):
        if len(value) > _MAX_TEXT_BYTES:
            raise ElementError("text", at, f"is {len(value)} bytes; at most {_MAX_TEXT_BYTES} are read")
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            raise ElementError("text", at, "holds bytes that are not UTF-8") from None
    return texts


def _open_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -- the library raises plain Exception
        raise ModelFileError(f"{path.name}: is no tokenizer ({str(error)[:200]})", file=path.name) from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer
