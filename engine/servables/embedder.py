"""A text encoder: texts, or token ids, in; a vector for each out. What stands on it: `engine.servables.backbone`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import NoLabelsError, TensorError
from engine.manifest import EmbeddingManifest
from engine.repository.folders import graph_file
from engine.scheduler.aside import aside
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.graph_backed import GraphBacked
from engine.servables.token_graph import TokenGraph
from engine.servables.tokens import MAX_TEXTS, TEXT, TokenRows, Tokens, in_pieces, open_tokenizer, padded, texts_of
from engine.tensor import Tensor, TensorSpec

__all__ = ["Embedder"]

_TOKENS = (TensorSpec("input_ids", "INT64", (-1, -1)), TensorSpec("attention_mask", "INT64", (-1, -1)))


class Embedder(GraphBacked[TokenGraph]):
    """A text encoder: `text` BYTES [n], or token ids, to `embedding` FP32 [n, d]."""

    inputs = (TEXT,)
    classifies: Items | None = None

    def __init__(self, context: ModelContext[EmbeddingManifest]) -> None:
        self._manifest = manifest = context.manifest
        path, self.inferred = graph_file(context.folder, manifest.file)
        self._graph = TokenGraph(path, context, self._pooled)
        with closed_on_failure(self._graph):
            self._tokenizer = open_tokenizer(context.folder / manifest.tokenizer, manifest.max_tokens)
        self.outputs = (TensorSpec("embedding", "FP32", (-1, self._graph.output.shape[-1])),)

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The embeddings."""
        if "text" in tensors or not tensors or not set(tensors) <= {"input_ids", "attention_mask"}:
            check_tensors(self.inputs, tensors)
            vectors, read = await self.embed(texts_of(tensors["text"]), terms)
            return Inference({"embedding": vectors}, len(vectors), read)
        check_tensors(_TOKENS, tensors)
        tokens = TokenRows(tensors["input_ids"], tensors["attention_mask"])
        self._check(tokens)
        vectors = await self._graph.run_rows(tokens, terms) if len(tokens.ids) else self._none()
        return Inference({"embedding": vectors}, len(vectors), tokens.count)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it makes vectors."""
        raise NoLabelsError("the model makes vectors of texts and gives no labels; ask it to embed")

    async def embed(self, texts: Sequence[str], terms: Terms = PLAIN) -> tuple[NDArray[np.float32], int]:
        """Vectors of texts, float32 (n, d), and how many tokens were read."""
        if not texts:
            return self._none(), 0
        sequences = await in_pieces(texts, len, self._tokens)
        tokens = await aside(sum(len(each.ids) for each in sequences) // 4, padded, sequences)
        return await self._graph.run_rows(tokens, terms), tokens.count

    def _check(self, tokens: TokenRows) -> None:
        """See that token ids and mask, int64 (n, s), go together and are what the model reads.

        Raises:
            TensorError: naming the one that is wrong.
        """
        rows, length = tokens.ids.shape
        if tokens.mask.shape != (rows, length) or not 1 <= length <= self._manifest.max_tokens:
            raise TensorError(
                "input_ids", f"must have the mask's shape and from 1 to {self._manifest.max_tokens} tokens a row"
            )
        if rows > MAX_TEXTS:
            raise TensorError("input_ids", f"holds {rows} rows; at most {MAX_TEXTS} are taken at once")
        if (
            np.maximum.reduce(tokens.mask.view(np.uint64), axis=None, initial=0) > 1
        ):  # what is negative is very large then
            raise TensorError("attention_mask", "holds a value that is neither 0 nor 1")

    def _none(self) -> NDArray[np.float32]:
        """The vectors of no texts, float32 (0, d)."""
        return np.zeros((0, self.outputs[0].shape[1]), np.float32)

    def _tokens(self, texts: list[str]) -> list[Tokens]:
        return [Tokens(each.ids) for each in self._tokenizer.encode_batch(texts)]

    def _pooled(self, tokens: Tensor, mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """One vector a row, float32 (n, d), from its tokens, (n, s, d), or from what the graph made of them, (n, d)."""
        vectors, normalise = tokens, self._manifest.normalise
        if tokens.ndim == 3 and self._manifest.pooling == "cls":
            vectors = tokens[:, 0]
        elif tokens.ndim == 3:
            weights = mask[:, None, :].astype(np.float32)
            vectors = (weights @ tokens)[:, 0]
            if not normalise:  # the sum has the mean's direction
                vectors = vectors / np.maximum(weights.sum(axis=2), 1e-9)
        vectors = vectors.astype(np.float32, copy=False)  # half precision does not hold its own squares
        if normalise:
            vectors = vectors / np.maximum(np.sqrt(np.vecdot(vectors, vectors)), 1e-12)[:, None]
        return np.ascontiguousarray(vectors)
