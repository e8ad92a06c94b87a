"""OpenAI's REST interface: bodies in, core calls, bodies or events out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Protocol

from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from tiation.engine.v1 import openai_pb2 as pb
from tiation.engine.v1 import openai_pb2_grpc

from engine.errors import ModelNotFoundError, NoLabelsError
from engine.generation.base import Generator, Piece
from engine.openai import answers
from engine.openai.answers import Answer, Kind
from engine.openai.asking import Asked, ask_chat, ask_completion
from engine.openai.choices import Choice, Usage, together
from engine.openai.embedding import check_dimensions, inputs_of
from engine.openai.failures import failure
from engine.openai.reading import read
from engine.openai.requests import ChatRequest, CompletionRequest, EmbeddingsRequest
from engine.repository.loaded import Loaded
from engine.repository.models import Model, ModelCatalogue
from engine.repository.repository import Repository
from engine.scheduler.aside import aside
from engine.scheduler.terms import Terms
from engine.servables import Embedder
from engine.servicers.rest_bodies import JSON, shown_json
from engine.servicers.usage import note_predicted
from engine.tensor import texts_tensor
from mesh.call import Call, Context, current_call, note_resource, note_usage
from mesh.catalogue import NotFoundError
from mesh.errors import TiationError
from mesh.identity import SYSTEM_TENANT, current_caller
from mesh.resource import fits, tenant_of
from mesh.uuid7 import uuid7

__all__ = ["OpenAIServicer"]

_EVENTS = "text/event-stream"
_MODEL = "tenants/{tenant}/models/{model}"
_VALUE_BYTES = 4
"""A value of JSON has about so many bytes, as `aside` counts values."""


class Access(Protocol):
    """Who may do what, on resources that a contract cannot name."""

    def also(self, call: Call, resource: str) -> None:
        """Let a call pass on a resource, or say why not."""


class OpenAIServicer(openai_pb2_grpc.OpenAIServiceServicer):
    """Answers OpenAI's clients.

    Args:
        repository: knows the models in memory.
        catalogue: knows when they came.
        access: decides about the model that a body names.
    """

    def __init__(self, repository: Repository, catalogue: ModelCatalogue, access: Access) -> None:
        self._repository = repository
        self._catalogue = catalogue
        self._access = access

    async def Embed(self, request: pb.OpenAIRequest, _: Context) -> httpbody_pb2.HttpBody:
        """Vectors of texts or token ids."""
        data = request.body.data
        asked = await aside(len(data) // _VALUE_BYTES, read, data, EmbeddingsRequest)
        inputs = await aside(len(data) // _VALUE_BYTES, inputs_of, asked)
        loaded = await self._found(asked.model, asked.user or "")
        encoder = loaded.servable
        if not isinstance(encoder, Embedder):
            raise NoLabelsError(f"{asked.model} makes no vectors of texts; a model of the kind text-embedding does")
        check_dimensions(asked.dimensions, encoder.outputs[0].shape[-1])
        with loaded.figures.request():
            tensors = inputs.tensors or {"text": texts_tensor(inputs.texts)}
            found = await loaded.infer(tensors, Terms(current_caller().tenant))
        vectors = found.outputs["embedding"]
        note_predicted(len(vectors), found.tokens)
        as_base64 = asked.encoding_format == "base64"
        size = len(vectors) if as_base64 else vectors.size
        made = await aside(size, answers.embeddings, asked.model, vectors, found.tokens, as_base64=as_base64)
        return httpbody_pb2.HttpBody(content_type=JSON, data=made)

    async def Chat(self, request: pb.OpenAIRequest, _: Context) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """The next turn of a conversation."""
        data = request.body.data
        asked = ask_chat(await aside(len(data) // _VALUE_BYTES, read, data, ChatRequest))
        async with aclosing(self._generated(asked, "chat")) as bodies:
            async for body in bodies:
                yield body

    async def Complete(self, request: pb.OpenAIRequest, _: Context) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """What follows a text."""
        data = request.body.data
        asked = ask_completion(await aside(len(data) // _VALUE_BYTES, read, data, CompletionRequest))
        async with aclosing(self._generated(asked, "completion")) as bodies:
            async for body in bodies:
                yield body

    async def Models(self, _: empty_pb2.Empty, __: Context) -> httpbody_pb2.HttpBody:
        """The models in memory that the caller may ask."""
        tenants = dict.fromkeys((current_caller().tenant, SYSTEM_TENANT))
        shown = []
        for name in (name for tenant in tenants for name in self._repository.serving_of(tenant)):
            with suppress(NotFoundError):  # it has just been deleted
                shown.append(await self._shown(name))
        return shown_json(answers.models(shown))

    async def Model(self, request: pb.OpenAIModelRequest, _: Context) -> httpbody_pb2.HttpBody:
        """One of them."""
        asked = request.model.partition(":")[0]
        name = self._repository.meant_by(current_caller().tenant, asked)
        if not name:
            raise _no_model(asked)
        note_resource(name)
        return shown_json(await self._shown(name))

    async def _shown(self, name: str) -> dict[str, object]:
        """A model: by its id, or by its full name where the id means another one to the caller."""
        entry = await self._catalogue.get(Model, name)
        model_id = name.rsplit("/", 1)[1]
        own = self._repository.meant_by(current_caller().tenant, model_id) == name
        return answers.model(model_id if own else name, int(entry.create_time.timestamp()), tenant_of(name))

    async def _generated(self, asked: Asked, kind: Kind) -> AsyncGenerator[httpbody_pb2.HttpBody, None]:
        """Answers, as one body or as events."""
        loaded = await self._found(asked.model, asked.key)
        generator = loaded.servable
        if not isinstance(generator, Generator):
            raise NoLabelsError(f"{asked.model} generates no text; a model of the kind text-generation does")
        terms = Terms(current_caller().tenant)
        answer = Answer(kind, asked.model, uuid7().replace("-", ""), int(time.time()), asked.usage)
        usage = Usage(len(asked.choices) // asked.prompts)
        streams = [generator.generate(prompt, sampling, terms) for prompt, sampling in asked.choices]
        with loaded.figures.request() as times:
            async with aclosing(_counted(streams, usage)) as pieces:
                if not asked.streams:
                    choices = [Choice() for _ in streams]
                    async for at, piece in pieces:
                        choices[at].add(piece)
                    times.wrote(len(streams))
                    yield shown_json(answer.whole(choices, usage))
                    return
                async for event in _events(answer, pieces, usage):
                    yield httpbody_pb2.HttpBody(content_type=_EVENTS, data=event)
                times.wrote(len(streams))

    async def _found(self, model: str, key: str) -> Loaded:
        """The model that a body names: `id`, `id:version`, or a full name.

        Args:
            model: as the body names it.
            key: what keeps the caller at one version of an alias.

        Raises:
            ModelNotFoundError: there is none, or it is another tenant's.
            TiationError: the caller may not ask it.
        """
        tenant = current_caller().tenant
        name, _, version = model.partition(":")
        whole = name if name.startswith("tenants/") else f"tenants/{tenant}/models/{name}"
        if not fits(_MODEL, whole) or tenant_of(whole) not in (tenant, SYSTEM_TENANT):
            raise _no_model(name)
        if (call := current_call.get()) is not None:
            self._access.also(call, whole)
        loaded = await self._repository.found(tenant, name, version, key)
        note_resource(loaded.name)
        return loaded


async def _counted(streams: Sequence[AsyncIterator[Piece]], usage: Usage) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of all answers; what they use up is noted as it comes, so that it is also where a caller leaves."""
    async with aclosing(together(streams)) as pieces:
        async for at, piece in pieces:
            prompt, completion = usage.add(at, piece)
            note_usage("tokens_in", prompt)
            note_usage("tokens_out", completion)
            yield at, piece


async def _events(answer: Answer, pieces: AsyncIterator[tuple[int, Piece]], usage: Usage) -> AsyncIterator[bytes]:
    """Events of a stream. An error before the first is raised; one that comes later is told, and raised then."""
    offsets: dict[int, int] = {}
    try:
        async for at, piece in pieces:
            if at not in offsets and (first := answer.first(at)) is not None:
                yield answers.event(first)
            before = offsets.get(at, 0)
            offsets[at] = before + len(piece.text)
            yield answers.event(answer.piece(at, piece, before))
    except (Exception, asyncio.CancelledError) as error:
        why = error if isinstance(error, Exception) else _cut_off()
        if offsets and why is not None:
            yield answers.event(failure(why))
        raise
    if answer.usage:
        yield answers.event(answer.last(usage))
    yield answers.DONE


def _no_model(name: str) -> ModelNotFoundError:
    """The same whether there is no such model, or it is not the caller's."""
    shown = name[:128]
    return ModelNotFoundError(f"there is no model `{shown}` in memory; `tiation models list` shows which", model=shown)


def _cut_off() -> TiationError | None:
    """Why the current call must not go on; None where its caller has left."""
    call = current_call.get()
    return None if call is None else call.ended
