"""Texts that a model writes, over REST: Triton's `generate` and `generate_stream`.

Each request becomes the message that gRPC takes, and its answers bodies or events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import msgspec
from google.api import httpbody_pb2
from inference import grpc_service_pb2 as oip
from tiation.engine.v1 import inference_rest_pb2 as pb

from engine.oip.generate import event, read_generate, write_generated
from engine.oip.requests import RestTensor
from engine.servicers.inference_messages import heard
from engine.servicers.inference_rest_control import RestControl
from engine.servicers.rest_bodies import JSON, said, unpacked
from engine.tensor import encode_raw, texts_tensor
from mesh.call import Context, current_call
from mesh.errors import TiationError

__all__ = ["RestTexts"]

_EVENTS = "text/event-stream"


class RestTexts(RestControl):
    """Answers REST requests for texts."""

    async def Generate(self, request: pb.RestInferRequest, context: Context) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """A text, whole."""
        answer = await self._inference.infer(_message(request, context))
        yield httpbody_pb2.HttpBody(content_type=JSON, data=_written(answer))

    async def GenerateStream(
        self, request: pb.RestInferRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """A text, part by part."""
        async with aclosing(self._events(_message(request, context))) as events:
            async for body in events:
                yield httpbody_pb2.HttpBody(content_type=_EVENTS, data=event(body))

    async def _events(self, message: oip.ModelInferRequest) -> AsyncGenerator[bytes]:
        """What events say. An error before the first is raised; one that comes later is told, and raised then."""
        begun = False
        try:
            async with aclosing(self._inference.stream(_alone(message), closes=True)) as answers:
                async for answer in answers:
                    yield _written(answer.infer_response)
                    begun = True
        except (Exception, asyncio.CancelledError) as error:
            call = current_call.get()
            why = error if isinstance(error, TiationError) else call.ended if call is not None else None
            if begun and (isinstance(error, Exception) or why is not None):
                text = why.message if why is not None else "the answer could not be finished"
                yield msgspec.json.encode({"error": text})
            raise


async def _alone(message: oip.ModelInferRequest) -> AsyncIterator[oip.ModelInferRequest]:
    yield message


def _message(request: pb.RestInferRequest, context: Context) -> oip.ModelInferRequest:
    asked = read_generate(unpacked(request.body, context))
    message = oip.ModelInferRequest(
        model_name=request.model_name,
        model_version=request.model_version,
        id=asked.id,
        parameters=said(asked.parameters),
        raw_input_contents=[encode_raw(texts_tensor(asked.texts))],
    )
    message.inputs.add(name="text_input", datatype="BYTES", shape=[len(asked.texts)])
    return message


def _written(answer: oip.ModelInferResponse) -> bytes:
    outputs = [
        RestTensor(each.name, each.datatype, list(each.shape), raw)
        for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    ]
    parameters = {name: value for name, value in heard(answer.parameters).items() if name != "triton_final_response"}
    head = {"id": answer.id, "model_name": answer.model_name, "model_version": answer.model_version}
    return write_generated({**head, **parameters}, outputs)
