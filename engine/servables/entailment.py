"""Zero-shot labels by a graph that reads a text and a statement together and says whether the statement follows.

After Yin et al., "Benchmarking Zero-shot Text Classification" (2019): the logits of entailment compete over the labels,
or with those of contradiction for each label by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import LabelsError, ManifestError
from engine.manifest import Candidate, EntailmentManifest
from engine.repository.folders import graph_file
from engine.scheduler.terms import Terms
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.graph_backed import GraphBacked
from engine.servables.labels import written_names
from engine.servables.scores import probabilities
from engine.servables.token_graph import TokenGraph
from engine.servables.tokens import Tokens, in_pieces, open_tokenizer
from engine.servables.zero_shot import ZeroShot, wording
from engine.tensor import Tensor

__all__ = ["PairZeroShot"]

_MAX_PAIRS = 4096
"""Texts times labels of one request: each pair is a row of the graph."""


class PairZeroShot(GraphBacked[TokenGraph], ZeroShot):
    """Asks for each text and label whether the label's statement follows from the text.

    Args:
        context: its files and how they are to serve.

    Raises:
        ManifestError: it is not to be seen which column means entailment; the message has the line to add.
        EngineError: the file is no graph that can be run.
    """

    def __init__(
        self,
        context: ModelContext[EntailmentManifest],
    ) -> None:
        manifest = context.manifest
        super().__init__(manifest.candidates, multi_label=manifest.multi_label)
        self._hypothesis = manifest.hypothesis
        path, inferred = graph_file(context.folder, manifest.file)
        self._tokenizer = open_tokenizer(context.folder / manifest.tokenizer, manifest.max_tokens)
        self._graph = TokenGraph(path, context, _read, manifest.output)
        with closed_on_failure(self._graph):
            tried = self._graph.try_once(self._pairs([("a few words", "others")]))
            self._entailment, self._contradiction, lines = _columns(context.folder, manifest, self._graph, tried)
        self.inferred = (*inferred, *lines)

    async def _table(
        self, texts: Sequence[str], candidates: Sequence[Candidate], multi_label: bool, terms: Terms
    ) -> tuple[NDArray[np.float32], int]:
        count = len(texts) * len(candidates)
        if count > _MAX_PAIRS:
            raise LabelsError(
                f"holds {len(candidates)} labels for {len(texts)} texts, {count} pairs; at most {_MAX_PAIRS} are asked"
            )
        if not count:
            return np.zeros((0, len(candidates)), np.float32), 0
        statements = [wording(each, self._hypothesis) for each in candidates]
        pairs = [(text, statement) for text in texts for statement in statements]
        sequences = await in_pieces(pairs, lambda pair: len(pair[0]) + len(pair[1]), self._pairs)
        logits = np.stack(await self._graph.run_each(sequences, terms)).reshape(len(texts), len(candidates), -1)
        if multi_label:
            table = probabilities(logits[:, :, [self._contradiction, self._entailment]], "logits")[:, :, 1]
        else:
            table = probabilities(logits[:, :, self._entailment], "logits")
        return np.ascontiguousarray(table), sum(len(each.ids) for each in sequences)

    def _pairs(self, pairs: list[tuple[str, str]]) -> list[Tokens]:
        return [Tokens(each.ids, each.type_ids) for each in self._tokenizer.encode_batch(pairs)]


def _read(table: Tensor, _: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(table, np.float32)


def _columns(
    folder: Path, manifest: EntailmentManifest, graph: TokenGraph, tried: Tensor
) -> tuple[int, int, tuple[str, ...]]:
    """The columns of entailment and of contradiction, and the lines of the manifest that would say them."""
    output = graph.output.name
    if tried.ndim != 2 or tried.shape[1] < 2:
        raise ManifestError(
            f"the output `{output}` has the shape {list(tried.shape)} for a pair of texts, where [1, columns] is needed"
        )
    width = tried.shape[1]
    said = (manifest.entailment, manifest.contradiction)
    if said[0] is None or said[1] is None:
        names = written_names(folder, graph.classes, width)
        found = [
            column if column is not None else next((at for at, name in enumerate(names) if word in name.lower()), None)
            for column, word in zip(said, ("entail", "contradict"), strict=True)
        ]
    else:
        found = list(said)
    if width == 2 and found[0] is not None and found[1] is None:
        found[1] = 1 - found[0]  # what does not follow, is contradicted or neither
    entailment, contradiction = found
    if entailment is None or contradiction is None:
        raise ManifestError(
            f"it cannot be seen which of the {width} columns of `{output}` means entailment; add these lines to "
            "model.yaml: `entailment: 0` and `contradiction: 2`"
        )
    if max(entailment, contradiction) >= width or entailment == contradiction:
        raise ManifestError(f"entailment: {entailment} and {contradiction} are not two of the {width} columns")
    lines = (f"entailment: {entailment}", f"contradiction: {contradiction}")
    return entailment, contradiction, tuple(line for line, each in zip(lines, said, strict=True) if each is None)
