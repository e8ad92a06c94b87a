"""A graph that tags tokens, and the entities that its tags make; `engine.servables.spans` puts them together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.errors import ManifestError, NoLabelsError, TextsTooLongError
from engine.manifest import TokenClassificationManifest
from engine.repository.folders import graph_file
from engine.scheduler.aside import aside
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.graph_backed import GraphBacked
from engine.servables.labels import names_of
from engine.servables.scores import Scores, kind_of_scores, probabilities
from engine.servables.spans import Entity, TokenSpans, entities_of
from engine.servables.token_graph import TokenGraph
from engine.servables.token_windows import SpecialTokens, Window, merged, windows_of
from engine.servables.tokens import TEXT, in_pieces, open_tokenizer, texts_of
from engine.tensor import Tensor, TensorSpec, texts_tensor

__all__ = ["Extracted", "TokenClassifier"]

_MAX_WINDOWS = 1024
"""Rows that the texts of one request come to."""
_MAX_VALUES = 1 << 26
"""Numbers that the graph answers one request with."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found.

    Attributes:
        entities: of each text, in its order.
        tokens: how many the model read.
    """

    entities: Sequence[Sequence[Entity]]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Cut:
    """A text cut into windows of tokens."""

    text: str
    ids: Sequence[int]
    spans: TokenSpans
    windows: Sequence[Window]


class TokenClassifier(GraphBacked[TokenGraph]):
    """`text` BYTES [n] to `entities` BYTES [n]: for each a JSON list of `{label, score, start, end, text}`.

    Args:
        context: its files and how they are to serve.

    Raises:
        ManifestError: what it leaves out cannot be seen in the files; the message has the line to add.
        EngineError: the file is no graph that can be run.
    """

    inputs = (TEXT,)
    outputs = (TensorSpec("entities", "BYTES", (-1,)),)
    classifies: Items | None = None

    def __init__(
        self,
        context: ModelContext[TokenClassificationManifest],
    ) -> None:
        self._manifest = manifest = context.manifest
        path, inferred = graph_file(context.folder, manifest.file)
        self._scores: Scores = "probabilities"  # until it is worked out
        self._tokenizer = open_tokenizer(context.folder / manifest.tokenizer, None)
        self._special = SpecialTokens.of(self._tokenizer)
        self._size = manifest.max_tokens - self._special.count
        self._graph = TokenGraph(path, context, self._read, manifest.output)
        with closed_on_failure(self._graph):
            output = self._graph.output.name
            tried = _tried(self._graph, self._tokenizer)
            self._scores = manifest.scores or kind_of_scores(tried, output)
            self._names, lines = names_of(context.folder, manifest.labels, self._graph.classes, tried.shape[2], output)
            _check_fits(manifest, self._names, self._size)
        said = () if manifest.scores else (f"scores: {self._scores}",)
        self.inferred = (*inferred, *said, *lines)

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The entities of each text."""
        check_tensors(self.inputs, tensors)
        texts = texts_of(tensors["text"])
        found = await self.extract(texts, terms=terms)
        lists = [_as_json(text, entities) for text, entities in zip(texts, found.entities, strict=True)]
        return Inference({"entities": texts_tensor(lists)}, len(texts), found.tokens)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it finds entities."""
        raise NoLabelsError("the model finds entities in texts and gives no labels to whole ones; ask ExtractEntities")

    async def extract(self, texts: Sequence[str], *, min_score: float = 0.0, terms: Terms = PLAIN) -> Extracted:
        """The entities of texts.

        Args:
            texts: of any length up to what a request may hold.
            min_score: less sure ones are left out; the manifest's own where that is higher.
            terms: for whom, how urgent, and until when.

        Raises:
            TextsTooLongError: they come to too many tokens.
        """
        cuts = await in_pieces(texts, len, self._cut)
        self._check(cuts)
        sequences = [window.tokens(cut.ids, self._special) for cut in cuts for window in cut.windows]
        answers = await self._graph.run_each(sequences, terms)
        floor = max(min_score, self._manifest.min_score)
        entities = await aside(sum(map(len, texts)), self._entities, cuts, answers, floor)
        return Extracted(entities, sum(len(each.ids) for each in sequences))

    def _cut(self, texts: list[str]) -> list[_Cut]:
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            _Cut(
                text,
                each.ids,
                TokenSpans(each.offsets, each.word_ids),
                list(windows_of(len(each.ids), self._size, self._manifest.overlap)),
            )
            for text, each in zip(texts, encoded, strict=True)
        ]

    def _check(self, cuts: Sequence[_Cut]) -> None:
        count = sum(len(cut.windows) for cut in cuts)
        longest = max((window.end - window.start for cut in cuts for window in cut.windows), default=0)
        values = count * (longest + self._special.count) * len(self._names)
        if count > _MAX_WINDOWS or values > _MAX_VALUES:
            tokens = sum(len(cut.ids) for cut in cuts)
            most = min(_MAX_WINDOWS, _MAX_VALUES // max(1, values // max(1, count)))
            raise TextsTooLongError(
                f"come to {tokens} tokens, which are {count} windows of the model; at most {most} are read at once: "
                "send fewer or shorter texts"
            )

    def _entities(
        self, cuts: Sequence[_Cut], answers: Sequence[NDArray[np.float32]], floor: float
    ) -> list[list[Entity]]:
        """What the answers to all windows, float32 (tokens, labels) each, say of the texts."""
        found: list[list[Entity]] = []
        begin, before = 0, len(self._special.before)
        for cut in cuts:
            windows = cut.windows
            own = answers[begin : begin + len(windows)]
            begin += len(windows)
            if not windows:
                found.append([])
                continue
            parts = [
                answer[before : before + window.end - window.start] for answer, window in zip(own, windows, strict=True)
            ]
            entities = entities_of(
                merged(windows, parts),
                self._names,
                cut.spans,
                cut.text,
                outside=self._manifest.outside,
                aggregation=self._manifest.aggregation,
            )
            found.append([entity for entity in entities if entity.score >= floor])
        return found

    def _read(self, table: Tensor, _: NDArray[np.int64]) -> NDArray[np.float32]:
        return probabilities(table, self._scores)


def _tried(graph: TokenGraph, tokenizer: Tokenizer) -> Tensor:
    """What the graph gives for a text, [1, tokens, labels].

    Raises:
        ManifestError: it is something else.
    """
    tokens = Window(0, 2).tokens(tokenizer.encode("a few words").ids, SpecialTokens((), ()))
    tried = graph.try_once([tokens])
    if tried.ndim != 3 or tried.shape[:2] != (1, len(tokens.ids)) or tried.shape[2] < 2:
        raise ManifestError(
            f"the output `{graph.output.name}` has the shape {list(tried.shape)} for a text of {len(tokens.ids)} "
            f"tokens, where [1, {len(tokens.ids)}, labels] is needed; name the output with the tags: `output: logits`"
        )
    return tried


def _check_fits(manifest: TokenClassificationManifest, names: Sequence[str], size: int) -> None:
    if manifest.outside not in names:
        raise ManifestError(
            f"outside: none of the labels is `{manifest.outside}`; add the one that means no entity to model.yaml: "
            f"`outside: {names[0]}`"
        )
    if size <= manifest.overlap:
        raise ManifestError(f"overlap: {manifest.overlap} tokens, and a window holds {size} besides special ones")


def _as_json(text: str, entities: Sequence[Entity]) -> str:
    return json.dumps(
        [
            {
                "label": each.label,
                "score": round(each.score, 6),
                "start": each.start,
                "end": each.end,
                "text": text[each.start : each.end],
            }
            for each in entities
        ],
        ensure_ascii=False,
    )
