"""PredictionService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tiation.engine.v1 import prediction_pb2 as pb
from tiation.engine.v1 import prediction_pb2_grpc

from engine.errors import NoLabelsError, WrongItemsError
from engine.repository import Loaded, Repository
from engine.servables import Classified, Embedder
from engine.servicers.usage import note_predicted
from mesh.call import Context
from mesh.identity import current_caller

__all__ = ["PredictionServicer"]

_ITEMS = ("texts", "images", "rows")


class PredictionServicer(prediction_pb2_grpc.PredictionServiceServicer):
    """Asks models in their own words.

    Args:
        repository: knows the models in memory.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def Embed(self, request: pb.EmbedRequest, _: Context) -> pb.EmbedResponse:
        """Vectors of texts."""
        loaded = self._find(request.name, request.version)
        if not isinstance(loaded.servable, Embedder):
            raise NoLabelsError(f"{request.name} makes no vectors of texts; a model of the kind text-embedding does")
        with loaded.figures.request():
            vectors, tokens = await loaded.servable.embed(request.texts)
        note_predicted(len(vectors), tokens)
        answer = pb.EmbedResponse(version=loaded.version)
        for vector in vectors:
            answer.embeddings.add(values=vector)
        return answer

    async def Classify(self, request: pb.ClassifyRequest, _: Context) -> pb.ClassifyResponse:
        """Labels for texts, images or rows."""
        loaded = self._find(request.name, request.version)
        values = _values(request, loaded)
        with loaded.figures.request():
            found = await loaded.servable.classify(values, owner=current_caller().tenant)
        note_predicted(len(found.labels), found.tokens)
        return _answer(found, loaded.version, request.top_k)

    def _find(self, name: str, version: int) -> Loaded:
        return self._repository.find(current_caller().tenant, name, str(version or ""))


def _values(request: pb.ClassifyRequest, loaded: Loaded) -> Sequence[Any]:
    """What the request holds, if that is what the model takes.

    Raises:
        WrongItemsError: it holds nothing, several things, or another thing.
        NoLabelsError: the model gives no labels to anything.
    """
    taken = loaded.servable.classifies
    sent = [field for field in _ITEMS if len(getattr(request, field))]
    if taken is None:
        raise NoLabelsError(f"{request.name} gives no labels to texts, images or rows; ask it with ModelInfer")
    if sent != [taken]:
        held = " and ".join(sent) or "nothing"
        raise WrongItemsError(
            f"the request holds {held}; {request.name} takes `{taken}`, and nothing else", takes=taken
        )
    if taken == "rows":
        return [row.values for row in request.rows]
    return list(getattr(request, taken))


def _answer(found: Classified, version: int, top_k: int) -> pb.ClassifyResponse:
    answer = pb.ClassifyResponse(version=version)
    order = np.argsort(-found.all_scores, axis=1, kind="stable")[:, :top_k] if top_k else None
    for row, (label, score) in enumerate(zip(found.labels, found.scores, strict=True)):
        made = answer.classifications.add(label=label, score=score)
        if order is not None:
            for column in order[row]:
                made.scores.add(label=found.names[column], score=found.all_scores[row, column])
    return answer
