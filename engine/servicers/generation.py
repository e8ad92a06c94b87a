"""PredictionService.Generate: answers of several prompts side by side, as one stream.

What is computed, and when, is `engine.generation`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from tiation.engine.v1 import prediction_pb2 as pb

from engine.errors import EngineError, InferenceFailedError, NoLabelsError, PromptError, SamplingError
from engine.generation.base import Message, Piece, Prompt, Sampling, Tool, ToolCall
from engine.generation.sequence import SequenceState
from engine.repository.loaded import Loaded
from engine.scheduler.terms import Terms
from engine.servables import TextGenerator
from engine.servicers.usage import note_predicted
from mesh.errors import TiationError
from mesh.status import status_of

__all__ = ["generated"]

_FINISH = {
    "stop": pb.GenerateResponse.STOP,
    "length": pb.GenerateResponse.LENGTH,
    "tool_calls": pb.GenerateResponse.TOOL_CALLS,
}


async def generated(request: pb.GenerateRequest, loaded: Loaded, owner: str) -> AsyncGenerator[pb.GenerateResponse]:
    """The answers, part by part, as they come.

    Raises:
        EngineError: before the first part, where a prompt or a setting cannot be; it is named.
    """
    writer = loaded.servable
    if not isinstance(writer, TextGenerator):
        raise NoLabelsError(f"{request.name} writes no texts; a model of the kind text-generation does")
    sampling = _sampling(request.sampling)
    terms = Terms(owner, request.priority, request.timeout_s)
    sequences = [
        await _prepared(writer, prompt, sampling, terms, f"prompts[{index}]")
        for index, prompt in enumerate(request.prompts)
    ]
    told = [0] * len(sequences)
    with loaded.figures.request() as times:
        async with _noted(sequences), aclosing(_merged([writer.answer(each) for each in sequences])) as parts:
            async for index, piece in parts:
                told[index] += 1
                yield _response(index, told[index], piece, loaded.version)
        times.wrote(len(sequences))


@asynccontextmanager
async def _noted(sequences: Sequence[SequenceState]) -> AsyncIterator[None]:
    """Note at the end what was used up, also where nobody wants the rest."""
    try:
        yield
    finally:
        read = sum(len(each.prompt) for each in sequences if each.made)
        note_predicted(len(sequences), read, sum(each.made for each in sequences))


async def _prepared(
    writer: TextGenerator, prompt: pb.Prompt, sampling: Sampling, terms: Terms, field: str
) -> SequenceState:
    try:
        return await writer.prepare(_prompt(prompt), sampling, terms)
    except SamplingError as error:
        raise SamplingError(f"sampling.{error.field}", error.said) from None
    except PromptError as error:
        raise PromptError(f"{field}.{error.field}", error.said) from None


async def _merged(
    answers: Sequence[AsyncGenerator[Piece]],
) -> AsyncGenerator[tuple[int, Piece | EngineError]]:
    """The pieces of all answers as they come; one that fails ends with its error.

    Raises:
        EngineError: one failed before any piece came: nothing of the stream is out yet.
    """
    waiting: asyncio.Queue[tuple[int, Piece | EngineError]] = asyncio.Queue(len(answers))

    async def read(index: int, answer: AsyncGenerator[Piece]) -> None:
        try:
            async with aclosing(answer) as pieces:
                async for piece in pieces:
                    await waiting.put((index, piece))
        except EngineError as error:
            await waiting.put((index, error))
        except Exception:  # noqa: BLE001 -- whatever it is, its reader must hear of an end
            await waiting.put((index, InferenceFailedError("the answer could not be finished")))

    readers = [asyncio.create_task(read(index, answer)) for index, answer in enumerate(answers)]
    try:
        left, begun = len(readers), False
        while left:
            index, piece = await waiting.get()
            if isinstance(piece, EngineError):
                if not begun:
                    raise piece
                left -= 1
            else:
                left -= piece.finish is not None
            begun = True
            yield index, piece
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def _response(index: int, sequence: int, piece: Piece | EngineError, version: int) -> pb.GenerateResponse:
    if isinstance(piece, TiationError):
        return pb.GenerateResponse(
            index=index, sequence=sequence, version=version, error=status_of(piece, piece.domain)
        )
    message = pb.GenerateResponse(
        index=index,
        sequence=sequence,
        text=piece.text,
        finish=_FINISH[piece.finish] if piece.finish else pb.GenerateResponse.FINISH_UNSPECIFIED,
        prompt_tokens=piece.prompt_tokens,
        completion_tokens=piece.completion_tokens,
        version=version,
    )
    for call in piece.tool_calls:
        message.tool_calls.add(id=call.id, tool=call.name, arguments=call.arguments)
    for score in piece.scores:
        told = message.scores.add(text=score.token, logprob=score.logprob)
        for text, logprob in score.top:
            told.top.add(text=text, logprob=logprob)
    return message


def _prompt(message: pb.Prompt) -> Prompt:
    return Prompt(
        message.text if message.HasField("text") else None,
        tuple(_message(each) for each in message.messages),
        tuple(_tool(each, at) for at, each in enumerate(message.tools)),
        message.tool_choice or "auto",
    )


def _message(message: pb.PromptMessage) -> Message:
    calls = tuple(ToolCall(each.id, each.tool, each.arguments or "{}") for each in message.tool_calls)
    return Message(message.role, message.content, message.speaker, calls, message.tool_call_id)


def _tool(message: pb.PromptTool, at: int) -> Tool:
    schema = _object(message.parameters) if message.parameters else {"type": "object"}
    if schema is None:
        raise PromptError(f"tools[{at}].parameters", "is no JSON object")
    return Tool(message.tool, message.description, schema)


def _sampling(message: pb.SamplingSettings) -> Sampling:
    schema = _object(message.json_schema) if message.json_schema else None
    if message.json_schema and schema is None:
        raise SamplingError("sampling.json_schema", "is no JSON object")
    return Sampling(
        max_tokens=message.max_tokens,
        temperature=message.temperature if message.HasField("temperature") else None,
        top_p=message.top_p if message.HasField("top_p") else None,
        top_k=message.top_k if message.HasField("top_k") else None,
        seed=message.seed if message.HasField("seed") else None,
        stop=tuple(message.stop),
        frequency_penalty=message.frequency_penalty,
        presence_penalty=message.presence_penalty,
        top_logprobs=message.top_logprobs if message.HasField("top_logprobs") else None,
        json_schema=schema,
    )


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
