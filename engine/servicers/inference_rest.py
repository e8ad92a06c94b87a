"""The Open Inference Protocol v2, over REST: bodies become the messages that gRPC takes, and its answers bodies."""

from __future__ import annotations

from typing import Any

import msgspec
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from inference import grpc_service_pb2 as oip
from tiation.engine.v1 import inference_rest_pb2 as pb
from tiation.engine.v1 import inference_rest_pb2_grpc

from engine.errors import ModelNotReadyError
from engine.oip.answers import Made, RestAnswer, write_answer
from engine.oip.bodies import LENGTH_HEADER, part, unpack
from engine.oip.requests import Asked, Parameter, RestRequest, read_request
from engine.scheduler.aside import aside
from engine.servicers.inference import InferenceServicer
from engine.servicers.plain import plain
from mesh.call import Context

__all__ = ["InferenceRestServicer"]

_JSON = "application/json"
_BYTES = "application/octet-stream"
_ENCODING_HEADER = "content-encoding"
_VALUE_BYTES = 4
"""A value of JSON has about so many bytes, as `aside` counts values."""


class InferenceRestServicer(inference_rest_pb2_grpc.InferenceRestServiceServicer):
    """Answers REST requests.

    Args:
        inference: answers the same requests over gRPC.
    """

    def __init__(self, inference: InferenceServicer) -> None:
        self._inference = inference

    async def ServerMetadata(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """What this is."""
        return _shown(await self._inference.ServerMetadata(oip.ServerMetadataRequest(), context))

    async def ServerLive(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """The engine lives."""
        return _shown(await self._inference.ServerLive(oip.ServerLiveRequest(), context))

    async def ServerReady(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """The engine answers requests; else an error, as clients look at the status alone."""
        answer = await self._inference.ServerReady(oip.ServerReadyRequest(), context)
        if not answer.ready:
            raise ModelNotReadyError("the engine is still loading its models; try again", retry_after_s=0.5)
        return _shown(answer)

    async def ModelReady(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """A model answers requests; else an error, as clients look at the status alone."""
        asked = oip.ModelReadyRequest(name=request.model_name, version=request.model_version)
        if not (await self._inference.ModelReady(asked, context)).ready:
            raise ModelNotReadyError(f"{request.model_name} does not answer requests; is it loaded?")
        return _json({"name": request.model_name, "ready": True})

    async def ModelMetadata(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """What a model takes and gives."""
        asked = oip.ModelMetadataRequest(name=request.model_name, version=request.model_version)
        return _shown(await self._inference.ModelMetadata(asked, context))

    async def Infer(self, request: pb.RestInferRequest, context: Context) -> httpbody_pb2.HttpBody:
        """One inference."""
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        data = request.body.data
        message, asked = await aside(len(data) // _VALUE_BYTES, _read, request, headers)
        answer = await self._inference.ModelInfer(message, context)
        made = await aside(sum(map(len, answer.raw_output_contents)) // _VALUE_BYTES, _written, answer, asked)
        if made.json_bytes is None:
            return httpbody_pb2.HttpBody(content_type=_JSON, data=made.data)
        await context.send_initial_metadata(((LENGTH_HEADER, str(made.json_bytes)),))
        return httpbody_pb2.HttpBody(content_type=_BYTES, data=made.data)


def _shown(message: Any) -> httpbody_pb2.HttpBody:  # noqa: ANN401 -- any message
    return _json(plain(message))


def _json(value: object) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type=_JSON, data=msgspec.json.encode(value))


def _read(request: pb.RestInferRequest, headers: dict[str, str]) -> tuple[oip.ModelInferRequest, Asked]:
    """The message that a request is over gRPC, and how its outputs shall come."""
    data = unpack(request.body.data, headers.get(_ENCODING_HEADER, ""))
    read = read_request(part(data, headers.get(LENGTH_HEADER)))
    return _message(request, read), read.asked


def _message(request: pb.RestInferRequest, read: RestRequest) -> oip.ModelInferRequest:
    message = oip.ModelInferRequest(
        model_name=request.model_name,
        model_version=request.model_version,
        id=read.id,
        parameters=_said(read.parameters),
    )
    for given in read.inputs:
        message.inputs.add(
            name=given.name, datatype=given.datatype, shape=given.shape, parameters=_said(given.parameters)
        )
        if given.raw is not None:
            message.raw_input_contents.append(given.raw)
    for wanted in read.asked.outputs:
        message.outputs.add(name=wanted.name, parameters=_said(wanted.parameters))
    return message


def _said(parameters: Any) -> dict[str, oip.InferParameter]:  # noqa: ANN401 -- a mapping of plain values
    return {name: _parameter(value) for name, value in parameters.items()}


def _parameter(value: Parameter) -> oip.InferParameter:
    match value:
        case bool():
            return oip.InferParameter(bool_param=value)
        case int():
            return oip.InferParameter(int64_param=value) if value < 2**63 else oip.InferParameter(uint64_param=value)
        case float():
            return oip.InferParameter(double_param=value)
        case _:
            return oip.InferParameter(string_param=value)


def _heard(parameters: Any) -> dict[str, Parameter]:  # noqa: ANN401 -- a map field
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in parameters.items()
    }


def _written(answer: oip.ModelInferResponse, asked: Asked) -> RestAnswer:
    head = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        "id": answer.id,
        "parameters": _heard(answer.parameters),
    }
    outputs = []
    for each, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        parameters = _heard(each.parameters)
        contents = None if "shared_memory_region" in parameters else raw
        outputs.append(Made(each.name, each.datatype, list(each.shape), contents, parameters))
    return write_answer(head, outputs, asked)
