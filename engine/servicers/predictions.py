"""PredictionService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tiation.engine.v1 import prediction_pb2 as pb
from tiation.engine.v1 import prediction_pb2_grpc

from engine.errors import ExplanationError, LabelsError, NoLabelsError, WrongItemsError
from engine.manifest import Candidate
from engine.repository.loaded import Loaded
from engine.repository.repository import Repository
from engine.scheduler.aside import aside
from engine.scheduler.terms import Terms
from engine.servables import (
    Classified,
    Detected,
    Detector,
    Embedder,
    Extracted,
    Sought,
    TabularModel,
    TokenClassifier,
    ZeroShot,
)
from engine.servicers.generation import generated
from engine.servicers.tables import explanation_of, numbers_answer, records_of, size_of, table_of
from engine.servicers.usage import note_predicted
from engine.tensor import texts_tensor
from mesh.call import Context, note_resource
from mesh.errors import InvalidError
from mesh.identity import current_caller

__all__ = ["PredictionServicer"]

_ITEMS = ("texts", "images", "rows", "records")


class _Asked(Protocol):
    """How every request says which version of which model it asks."""

    name: str
    version: int
    alias: str
    sticky_key: str


class PredictionServicer(prediction_pb2_grpc.PredictionServiceServicer):
    """Asks models in their own words.

    Args:
        repository: knows the models in memory.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def Embed(self, request: pb.EmbedRequest, _: Context) -> pb.EmbedResponse:
        """Vectors of texts."""
        loaded = await self._found(request)
        if not isinstance(loaded.servable, Embedder):
            raise NoLabelsError(f"{request.name} makes no vectors of texts; a model of the kind text-embedding does")
        with loaded.figures.request():
            found = await loaded.infer({"text": texts_tensor(request.texts)}, Terms(current_caller().tenant))
        vectors = found.outputs["embedding"]
        note_predicted(len(vectors), found.tokens)
        return await aside(len(vectors) * 16, _vectors, vectors, loaded.version)

    async def Generate(self, request: pb.GenerateRequest, _: Context) -> AsyncIterator[pb.GenerateResponse]:
        """Texts that go on from prompts, part by part."""
        loaded = await self._found(request)
        with loaded.figures.request():
            async with aclosing(generated(request, loaded, current_caller().tenant)) as parts:
                async for part in parts:
                    yield part

    async def Classify(self, request: pb.ClassifyRequest, _: Context) -> pb.ClassifyResponse:
        """Labels for texts, images or rows."""
        loaded = await self._found(request)
        field = _check(request, loaded)
        values = await aside(size_of(request), _values, request, field)
        with loaded.figures.request():
            terms = Terms(current_caller().tenant)
            found = await _classified(request, loaded, field, values, terms)
            why = await _explained(request, loaded, field, values, found, terms) if request.explain else []
        note_predicted(len(found.labels), found.tokens)
        size = len(found.labels) * min(request.top_k, len(found.names))
        answer = await aside(size, _answer, found, loaded.version, request.top_k)
        for made, explanation in zip(answer.classifications, why, strict=False):
            made.explanation.CopyFrom(explanation)
        return answer

    async def ExtractEntities(self, request: pb.ExtractEntitiesRequest, _: Context) -> pb.ExtractEntitiesResponse:
        """What has a name in texts."""
        loaded = await self._found(request)
        if not isinstance(loaded.servable, TokenClassifier):
            raise NoLabelsError(f"{request.name} finds no entities; a model of the kind token-classification does")
        with loaded.figures.request():
            found = await loaded.servable.extract(
                request.texts, min_score=request.min_score, terms=Terms(current_caller().tenant)
            )
        note_predicted(len(found.entities), found.tokens)
        size = sum(len(entities) for entities in found.entities)
        return await aside(size * 8, _entities, found, request.texts, loaded.version)

    async def Detect(self, request: pb.DetectRequest, _: Context) -> pb.DetectResponse:
        """What is in images, and where."""
        loaded = await self._found(request)
        if not isinstance(loaded.servable, Detector):
            raise NoLabelsError(f"{request.name} finds nothing in images; a model of the kind object-detection does")
        sought = Sought(
            request.min_score if request.HasField("min_score") else None,
            request.max_overlap if request.HasField("max_overlap") else None,
            request.max_detections or None,
        )
        with loaded.figures.request():
            found = await loaded.servable.detect(list(request.images), sought, Terms(current_caller().tenant))
        note_predicted(len(found.images), 0)
        size = sum(len(each.scores) for each in found.images)
        return await aside(size * 8, _detections, found, loaded.version, normalised=request.normalised)

    async def Regress(self, request: pb.RegressRequest, _: Context) -> pb.RegressResponse:
        """Numbers for rows."""
        loaded = await self._found(request)
        servable = loaded.servable
        if not isinstance(servable, TabularModel):
            raise NoLabelsError(f"{request.name} gives no numbers to rows; a model of the kind tabular does")
        records, field = await aside(size_of(request), table_of, request, servable)
        with loaded.figures.request():
            terms = Terms(current_caller().tenant)
            found = await servable.regress(records, field, terms)
            outputs = [range(found.shape[1])] * len(found)
            why = await servable.explain(records, outputs, terms) if request.explain else []
        note_predicted(len(found), 0)
        return await aside(found.size, numbers_answer, found, why, servable.columns.names, loaded.version)

    async def _found(self, request: _Asked) -> Loaded:
        if request.version and request.alias:
            raise InvalidError("alias", "goes without `version`; send one of them")
        version = request.alias or str(request.version or "")
        loaded = await self._repository.found(current_caller().tenant, request.name, version, request.sticky_key)
        note_resource(loaded.name)
        return loaded


async def _classified(
    request: pb.ClassifyRequest, loaded: Loaded, field: str, values: Sequence[Any], terms: Terms
) -> Classified:
    """The labels; among those of the request, where it brings some.

    Raises:
        LabelsError: it brings some, and the model has its own.
    """
    apart = request.multi_label if request.HasField("multi_label") else None
    if not request.labels and apart is None:
        if field == "records" and isinstance(loaded.servable, TabularModel):
            return await loaded.servable.classify_records(values, field, terms)
        return await loaded.classify(values, terms)
    if isinstance(loaded.servable, ZeroShot):
        candidates = [Candidate(each.label, each.description) for each in request.labels]
        return await loaded.servable.classify_among(values, candidates, apart, terms)
    raise LabelsError(
        f"{request.name} has labels of its own; leave out `labels` and `multi_label`, or ask a model of the kind "
        "zero-shot-classification"
    )


async def _explained(
    request: pb.ClassifyRequest,
    loaded: Loaded,
    field: str,
    values: Sequence[Any],
    found: Classified,
    terms: Terms,
) -> list[pb.Explanation]:
    """Why each row has its label.

    Raises:
        ExplanationError: the model reads no rows of columns, or cannot say.
    """
    model = loaded.servable
    if not isinstance(model, TabularModel):
        raise ExplanationError(f"{request.name} does not say why; a model of the kind tabular does")
    records = values if field == "records" else model.columns.records(values, field)
    names = list(found.names)
    why = await model.explain(records, [[names.index(label)] for label in found.labels], terms)
    return [explanation_of(each, model.columns.names) for (each,) in why]


def _detections(found: Detected, version: int, *, normalised: bool) -> pb.DetectResponse:
    answer = pb.DetectResponse(version=version)
    for image in found.images:
        made = answer.results.add(width=image.width, height=image.height)
        boxes = image.boxes / np.array([image.width, image.height] * 2, np.float32) if normalised else image.boxes
        for box, score, number in zip(boxes.tolist(), image.scores.tolist(), image.classes.tolist(), strict=True):
            x_min, y_min, x_max, y_max = box
            each = pb.Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)
            made.detections.add(label=found.name(number), score=score, box=each)
    return answer


def _entities(found: Extracted, texts: Sequence[str], version: int) -> pb.ExtractEntitiesResponse:
    answer = pb.ExtractEntitiesResponse(version=version)
    for text, entities in zip(texts, found.entities, strict=True):
        made = answer.extractions.add()
        for each in entities:
            made.entities.add(
                label=each.label, score=each.score, start=each.start, end=each.end, text=text[each.start : each.end]
            )
    return answer


def _vectors(vectors: NDArray[np.float32], version: int) -> pb.EmbedResponse:
    answer = pb.EmbedResponse(version=version)
    for vector in vectors:
        answer.embeddings.add(values=vector.tolist())  # ten times as fast as numpy's own numbers
    return answer


def _check(request: pb.ClassifyRequest, loaded: Loaded) -> str:
    """Which field has the items, seen to be what the model takes.

    Raises:
        WrongItemsError: it holds nothing, several things, or another thing.
        NoLabelsError: the model gives no labels to anything.
    """
    taken = loaded.servable.classifies
    sent = [field for field in _ITEMS if len(getattr(request, field))]
    if taken is None:
        raise NoLabelsError(f"{request.name} gives no labels to texts, images or rows; ask it with ModelInfer")
    if sent == [taken] or (sent == ["records"] and isinstance(loaded.servable, TabularModel)):
        return sent[0]
    held = " and ".join(sent) or "nothing"
    raise WrongItemsError(f"the request holds {held}; {request.name} takes `{taken}`, and nothing else", takes=taken)


def _values(request: pb.ClassifyRequest, field: str) -> Sequence[Any]:
    if field == "rows":
        return [list(row.values) for row in request.rows]
    if field == "records":
        return records_of(request.records)
    return list(request.images) if field == "images" else list(request.texts)


def _answer(found: Classified, version: int, top_k: int) -> pb.ClassifyResponse:
    answer = pb.ClassifyResponse(version=version)
    order = np.argsort(-found.all_scores, axis=1, kind="stable")[:, :top_k]
    ordered = np.take_along_axis(found.all_scores, order, axis=1)
    for row, (label, score) in enumerate(zip(found.labels, found.scores.tolist(), strict=True)):
        made = answer.classifications.add(label=label, score=score)
        for column, each in zip(order[row].tolist(), ordered[row].tolist(), strict=True):
            made.scores.add(label=found.names[column], score=each)
    return answer
