"""Labels that nobody trained for: a text is compared with what each label says, by vectors or by entailment.

Who compares is one of two: a text encoder (`EncoderZeroShot`), or a graph that reads both together (`PairZeroShot`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import LabelsError
from engine.manifest import Candidate, ZeroShotManifest
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.backbone import EncoderBacked, Standing
from engine.servables.base import Classified, Inference, Items, Servable, Tensors, check_tensors
from engine.servables.calibration import MINILM, Calibration, calibrate
from engine.servables.embedder import Embedder
from engine.servables.tokens import TEXT, texts_of
from engine.tensor import TensorSpec

__all__ = ["EncoderZeroShot", "ZeroShot", "wording"]

_MAX_LABELS = 256
_REMEMBERED = 4096
"""Labels' vectors that are kept, the latest used."""


class ZeroShot(ABC):
    """What both have in common.

    Args:
        candidates: the labels where a request brings none.
        multi_label: whether each label is true or false by itself, where a request does not say.
    """

    inputs = (TEXT,)
    outputs = (TensorSpec("label", "BYTES", (-1,)), TensorSpec("score", "FP32", (-1,)))
    classifies: Items = "texts"

    def __init__(self, candidates: Sequence[Candidate], *, multi_label: bool) -> None:
        self._candidates = tuple(candidates)
        self._multi_label = multi_label

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The best of the manifest's labels and its score."""
        check_tensors(self.inputs, tensors)
        found = await self.classify(texts_of(tensors["text"]), terms)
        return found.answer()

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """The manifest's labels for texts."""
        return await self.classify_among(values, (), None, terms)

    async def classify_among(
        self, texts: Sequence[str], candidates: Sequence[Candidate], multi_label: bool | None, terms: Terms = PLAIN
    ) -> Classified:
        """Labels for texts.

        Args:
            texts: what gets them.
            candidates: which there are; none for those of the manifest.
            multi_label: whether each is true or false by itself; None for what the manifest says.
            terms: for whom, how urgent, and until when.

        Raises:
            LabelsError: there are none, too many, or one twice.
        """
        chosen = tuple(candidates) or self._candidates
        names = [each.label for each in chosen]
        if not chosen:
            raise LabelsError("is empty; send the labels to choose from, or write them into model.yaml: `labels: […]`")
        if len(chosen) > _MAX_LABELS:
            raise LabelsError(f"holds {len(chosen)} labels; at most {_MAX_LABELS} are compared")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise LabelsError(f"holds {twice[:64]!r} twice")
        table, tokens = await self._table(
            texts, chosen, self._multi_label if multi_label is None else multi_label, terms
        )
        best = table.argmax(axis=1)
        return Classified([names[at] for at in best], table[np.arange(len(table)), best], names, table, tokens)

    @abstractmethod
    async def _table(
        self, texts: Sequence[str], candidates: Sequence[Candidate], multi_label: bool, terms: Terms
    ) -> tuple[NDArray[np.float32], int]:
        """Scores, float32 (texts, candidates), and how many tokens were read."""


def wording(candidate: Candidate, template: str) -> str:
    """What a label says in words."""
    return candidate.description or template.replace("{}", candidate.label)


class _Remembered:
    """The vectors of labels that an encoder has made, and how similarities become scores with it."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def vectors(
        self, embedder: Embedder, wordings: Sequence[str], terms: Terms
    ) -> tuple[NDArray[np.float32], int]:
        """Vectors, float32 (n, d), and how many tokens were read for those that were not known."""
        found = {each: self._vectors[each] for each in wordings if each in self._vectors}
        new = [each for each in dict.fromkeys(wordings) if each not in found]
        made, tokens = await embedder.embed(new, terms)
        found |= dict(zip(new, made, strict=True))
        for each, vector in found.items():
            self._vectors[each] = vector
            self._vectors.move_to_end(each)
        while len(self._vectors) > _REMEMBERED:
            self._vectors.popitem(last=False)
        return np.stack([found[each] for each in wordings]), tokens


class EncoderZeroShot(EncoderBacked[_Remembered], ZeroShot):
    """Compares the vectors of texts and labels.

    Args:
        manifest: what the owner says of it.
        backbone: gives the encoder as it is loaded now.
    """

    def __init__(self, manifest: ZeroShotManifest, backbone: Callable[[], Servable]) -> None:
        super().__init__(manifest.candidates, multi_label=manifest.multi_label)
        self._manifest = manifest
        self._standing = Standing(manifest.backbone, backbone, self._remembered)

    @staticmethod
    async def build(manifest: ZeroShotManifest, backbone: Callable[[], Servable]) -> EncoderZeroShot:
        """Compute the vectors of the manifest's labels, and fit the scores to its examples.

        Raises:
            BackboneError: the backbone is no text encoder.
        """
        made = EncoderZeroShot(manifest, backbone)
        await made._standing.get()
        return made

    async def _table(
        self, texts: Sequence[str], candidates: Sequence[Candidate], multi_label: bool, terms: Terms
    ) -> tuple[NDArray[np.float32], int]:
        embedder, remembered = await self._standing.get()
        wordings = [wording(each, self._manifest.template) for each in candidates]
        (labels, read), (vectors, tokens) = await asyncio.gather(
            remembered.vectors(embedder, wordings, terms), embedder.embed(texts, terms)
        )
        return remembered.calibration.scores(vectors @ labels.T, multi_label=multi_label), read + tokens

    async def _remembered(self, embedder: Embedder) -> _Remembered:
        manifest = self._manifest
        made = _Remembered(MINILM)
        wordings = [wording(each, manifest.template) for each in manifest.candidates]
        if not wordings:
            return made
        labels, _ = await made.vectors(embedder, wordings, PLAIN)
        if manifest.examples:
            names = [each.label for each in manifest.candidates]
            vectors, _ = await embedder.embed([example.text for example in manifest.examples])
            truths = np.array([names.index(example.label) for example in manifest.examples], np.int64)
            made.calibration = await asyncio.to_thread(calibrate, vectors @ labels.T, truths)
        return made
