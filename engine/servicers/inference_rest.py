"""The Open Inference Protocol v2, over REST: bodies become the messages that gRPC takes, and its answers bodies."""

from __future__ import annotations

from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from inference import grpc_service_pb2 as oip
from tiation.engine.v1 import inference_rest_pb2 as pb

from engine.errors import ModelNotReadyError
from engine.oip.answers import RestAnswer, write_answer
from engine.oip.bodies import LENGTH_HEADER, part
from engine.oip.requests import Asked, RestRequest, RestTensor, read_request
from engine.scheduler.aside import aside
from engine.servicers.inference_messages import heard
from engine.servicers.inference_rest_texts import RestTexts
from engine.servicers.rest_bodies import JSON, headers_of, said, shown, shown_json, unpacked
from mesh.call import Context

__all__ = ["InferenceRestServicer"]

_BYTES = "application/octet-stream"
_VALUE_BYTES = 4
"""A value of JSON has about so many bytes, as `aside` counts values."""


class InferenceRestServicer(RestTexts):
    """Answers REST requests: the protocol's own; Triton's extensions are `RestTexts`' and `RestControl`'s."""

    async def ServerMetadata(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """What this is."""
        return shown(await self._inference.ServerMetadata(oip.ServerMetadataRequest(), context))

    async def ServerLive(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """The engine lives."""
        return shown(await self._inference.ServerLive(oip.ServerLiveRequest(), context))

    async def ServerReady(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """The engine answers requests; else an error, as clients look at the status alone."""
        answer = await self._inference.ServerReady(oip.ServerReadyRequest(), context)
        if not answer.ready:
            raise ModelNotReadyError("the engine is still loading its models; try again", retry_after_s=0.5)
        return shown(answer)

    async def ModelReady(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """A model answers requests; else an error, as clients look at the status alone."""
        asked = oip.ModelReadyRequest(name=request.model_name, version=request.model_version)
        if not (await self._inference.ModelReady(asked, context)).ready:
            raise ModelNotReadyError(f"{request.model_name} does not answer requests; is it loaded?")
        return shown_json({"name": request.model_name, "ready": True})

    async def ModelMetadata(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """What a model takes and gives."""
        asked = oip.ModelMetadataRequest(name=request.model_name, version=request.model_version)
        return shown(await self._inference.ModelMetadata(asked, context))

    async def Infer(self, request: pb.RestInferRequest, context: Context) -> httpbody_pb2.HttpBody:
        """One inference."""
        message, asked = await aside(len(request.body.data) // _VALUE_BYTES, _read, request, context)
        answer = await self._inference.ModelInfer(message, context)
        made = await aside(sum(map(len, answer.raw_output_contents)) // _VALUE_BYTES, _written, answer, asked)
        if made.json_bytes is None:
            return httpbody_pb2.HttpBody(content_type=JSON, data=made.data)
        await context.send_initial_metadata(((LENGTH_HEADER, str(made.json_bytes)),))
        return httpbody_pb2.HttpBody(content_type=_BYTES, data=made.data)


def _read(request: pb.RestInferRequest, context: Context) -> tuple[oip.ModelInferRequest, Asked]:
    """The message that a request is over gRPC, and how its outputs shall come."""
    length = headers_of(context).get(LENGTH_HEADER)
    read = read_request(part(unpacked(request.body, context), length))
    return _message(request, read), read.asked


def _message(request: pb.RestInferRequest, read: RestRequest) -> oip.ModelInferRequest:
    message = oip.ModelInferRequest(
        model_name=request.model_name,
        model_version=request.model_version,
        id=read.id,
        parameters=said(read.parameters),
    )
    for given in read.inputs:
        message.inputs.add(
            name=given.name, datatype=given.datatype, shape=given.shape, parameters=said(given.parameters)
        )
        if given.raw is not None:
            message.raw_input_contents.append(given.raw)
    for wanted in read.asked.outputs:
        message.outputs.add(name=wanted.name, parameters=said(wanted.parameters))
    return message


def _written(answer: oip.ModelInferResponse, asked: Asked) -> RestAnswer:
    head = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "id": answer.id,
        "parameters": heard(answer.parameters),
    }
    outputs = []
    for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        parameters = heard(each.parameters)
        contents = None if "shared_memory_region" in parameters else raw
        outputs.append(RestTensor(each.name, each.datatype, list(each.shape), contents, parameters))
    return write_answer(head, outputs, asked)
