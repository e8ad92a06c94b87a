"""Texts that a model writes, as answers of the Open Inference Protocol: whole, or part by part.

What may be asked for is `engine.oip.texts`'.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeAlias

from inference import grpc_service_pb2 as pb

from engine.errors import ElementError, ParameterError, PromptError, SamplingError, TensorError
from engine.figures import RequestTimes
from engine.generation.base import Piece, Prompt
from engine.manifest import GenerationManifest
from engine.oip.texts import CHOICES, TextWish, read_text_wish
from engine.parameters import Parameter
from engine.repository.loaded import Loaded
from engine.response_figures import ResponseTimes
from engine.scheduler.terms import Terms
from engine.servables import Servable, TextGenerator
from engine.servables.base import check_tensors
from engine.servicers.usage import note_predicted
from engine.tensor import Tensor, TensorSpec, check_tensor, texts_tensor

__all__ = ["TellPart", "specs_of", "written"]

TellPart: TypeAlias = Callable[[pb.ModelInferResponse], Awaitable[None]]
"""Gives a part of an answer that is not its last one."""
Make: TypeAlias = Callable[[Mapping[str, Tensor]], pb.ModelInferResponse]
"""Makes an answer of its outputs."""


def specs_of(servable: Servable) -> Sequence[TensorSpec]:
    """What a request may hold: a model's inputs, and for one that writes texts how that is done."""
    return (*servable.inputs, *CHOICES) if isinstance(servable, TextGenerator) else servable.inputs


async def written(
    loaded: Loaded,
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, Parameter],
    terms: Terms,
    times: RequestTimes,
    make: Make,
    tell: TellPart | None,
) -> pb.ModelInferResponse:
    """The answer of a model that writes texts, or its last part after all others were told.

    Args:
        loaded: the model.
        tensors: what the request holds.
        parameters: of the request.
        terms: for whom, how urgent, and until when.
        times: hear how long it took.
        make: makes an answer of its outputs.
        tell: takes the parts before the last; None where there may be only one answer.

    Raises:
        EngineError: what is asked for cannot be; it is named.
    """
    generator, manifest = loaded.servable, loaded.manifest
    assert isinstance(generator, TextGenerator)  # noqa: S101 -- the caller has looked
    assert isinstance(manifest, GenerationManifest)  # noqa: S101 -- its servable is one
    choices = {spec.name: tensors[spec.name] for spec in CHOICES if spec.name in tensors}
    for spec in CHOICES:
        if spec.name in choices:
            check_tensor(spec, choices[spec.name])
    given = {name: tensor for name, tensor in tensors.items() if name not in choices}
    check_tensors(generator.inputs, given)
    texts = generator.texts_of(given)
    wish = read_text_wish(parameters, choices, manifest.max_tokens)
    if wish.stream and tell is None:
        raise ParameterError(
            "stream", "one answer comes here, and none in parts; ask with ModelStreamInfer or generate_stream"
        )
    try:
        if tell is None or wish.stream is False:
            answer = await _whole(generator, texts, wish, terms, make)
        else:
            with loaded.figures.responses.request() as responses:
                answer = await _parts(generator, responses, texts, wish, terms, make, tell)
    except SamplingError as error:
        raise ParameterError(error.field, error.said) from None
    times.wrote(len(texts))
    return answer


async def _whole(
    generator: TextGenerator, texts: list[str], wish: TextWish, terms: Terms, make: Make
) -> pb.ModelInferResponse:
    pieces = await generator.write(texts, wish.sampling, terms)
    note_predicted(
        len(pieces), sum(each.prompt_tokens for each in pieces), sum(each.completion_tokens for each in pieces)
    )
    begins = texts if wish.with_prompt else [""] * len(texts)
    answer = _made(make, [begin + piece.text for begin, piece in zip(begins, pieces, strict=True)])
    if len(pieces) == 1:
        _end(answer, pieces[0])
    return answer


async def _parts(
    generator: TextGenerator,
    responses: ResponseTimes,
    texts: list[str],
    wish: TextWish,
    terms: Terms,
    make: Make,
    tell: TellPart,
) -> pb.ModelInferResponse:
    if len(texts) != 1:
        raise TensorError("text_input", f"holds {len(texts)} texts; part by part only one is answered, send each alone")
    begin = texts[0] if wish.with_prompt else ""
    piece = Piece("")
    try:
        async with aclosing(generator.generate(Prompt(texts[0]), wish.sampling, terms)) as pieces:
            async for piece in pieces:
                came, text, begin = time.perf_counter(), begin + piece.text, ""
                answer = _made(make, [text])
                responses.made(came, empty=not text)
                if piece.finish is not None:
                    break
                await tell(answer)
                responses.handed()
    except SamplingError:
        raise
    except PromptError as error:
        raise ElementError("text_input", 0, error.said) from None
    finally:
        note_predicted(1, piece.prompt_tokens, piece.completion_tokens)
    _end(answer, piece)
    return answer


def _made(make: Make, texts: list[str]) -> pb.ModelInferResponse:
    return make({"text_output": texts_tensor(texts)})


def _end(answer: pb.ModelInferResponse, piece: Piece) -> None:
    """Say in an answer why its text ended, and of how many tokens it came."""
    answer.parameters["finish_reason"].string_param = str(piece.finish)
    answer.parameters["prompt_tokens"].int64_param = piece.prompt_tokens
    answer.parameters["completion_tokens"].int64_param = piece.completion_tokens
