"""A graph that was trained to label texts: `input_ids` in, a number for each label out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.errors import ManifestError
from engine.manifest import TextGraphManifest
from engine.repository.folders import graph_file
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.graph_backed import GraphBacked
from engine.servables.labels import names_of
from engine.servables.scores import Scores, kind_of_scores, probabilities
from engine.servables.token_graph import TokenGraph
from engine.servables.tokens import TEXT, Tokens, in_pieces, open_tokenizer, texts_of
from engine.tensor import Tensor, TensorSpec

__all__ = ["TextClassifier"]

_TRIAL = ("a few words", "others")


class TextClassifier(GraphBacked[TokenGraph]):
    """`text` BYTES [n] to `label` BYTES [n] and `score` FP32 [n].

    Args:
        context: its files and how they are to serve.

    Raises:
        ManifestError: what it leaves out cannot be seen in the files; the message has the line to add.
        EngineError: the file is no graph that can be run.
    """

    inputs = (TEXT,)
    outputs = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,)))
    classifies: Items = "texts"

    def __init__(
        self,
        context: ModelContext[TextGraphManifest],
    ) -> None:
        manifest = context.manifest
        path, inferred = graph_file(context.folder, manifest.file)
        self._multi_label = manifest.multi_label
        self._scores: Scores = "probabilities"  # until it is worked out
        self._tokenizer = open_tokenizer(context.folder / manifest.tokenizer, manifest.max_tokens)
        self._graph = TokenGraph(path, context, self._read, manifest.output)
        with closed_on_failure(self._graph):
            output = self._graph.output.name
            tried = _tried(self._graph, self._tokenizer)
            self._scores = manifest.scores or kind_of_scores(tried, output, multi_label=manifest.multi_label)
            self._names, lines = names_of(context.folder, manifest.labels, self._graph.classes, tried.shape[1], output)
        said = () if manifest.scores else (f"scores: {self._scores}",)
        self.inferred = (*inferred, *said, *lines)

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The best labels and their scores."""
        check_tensors(self.inputs, tensors)
        found = await self.classify(texts_of(tensors["text"]), terms)
        return found.answer()

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for texts."""
        sequences = await in_pieces(values, len, self._tokens)
        rows = await self._graph.run_each(sequences, terms)
        table = np.stack(rows) if rows else np.zeros((0, len(self._names)), np.float32)
        best = table.argmax(axis=1)
        scores = table[np.arange(len(table)), best]
        tokens = sum(len(each.ids) for each in sequences)
        return Classified([self._names[at] for at in best], scores, self._names, table, tokens)

    def _tokens(self, texts: list[str]) -> list[Tokens]:
        return [Tokens(each.ids) for each in self._tokenizer.encode_batch(texts)]

    def _read(self, table: Tensor, _: NDArray[np.int64]) -> NDArray[np.float32]:
        return probabilities(table, self._scores, multi_label=self._multi_label)


def _tried(graph: TokenGraph, tokenizer: Tokenizer) -> Tensor:
    """What the graph gives for two texts, [2, labels].

    Raises:
        ManifestError: it is something else.
    """
    tried = graph.try_once([Tokens(each.ids) for each in tokenizer.encode_batch(list(_TRIAL))])
    if tried.ndim != 2 or tried.shape[1] < 2:
        raise ManifestError(
            f"the output `{graph.output.name}` has the shape {list(tried.shape)} for two texts, where [2, labels] is "
            "needed; name the output with the labels: `output: logits`"
        )
    return tried
