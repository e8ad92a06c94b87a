"""Bodies of other protocols' REST sides, as they come through the front proxy and go back."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from google.api import httpbody_pb2
from google.protobuf.message import Message
from inference import grpc_service_pb2 as oip

from engine.oip.bodies import unpack
from engine.parameters import Parameter
from engine.servicers.plain import plain
from mesh.call import Context

__all__ = ["JSON", "headers_of", "said", "shown", "shown_json", "unpacked"]

JSON = "application/json"
_ENCODING_HEADER = "content-encoding"


def headers_of(context: Context) -> dict[str, str]:
    """The request's headers, in lower case."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def unpacked(body: httpbody_pb2.HttpBody, context: Context) -> bytes:
    """A body as it was before it was packed.

    Raises:
        BodyError: it is not packed as its header says.
        BodyTooLargeError: it comes to too much.
    """
    return unpack(body.data, headers_of(context).get(_ENCODING_HEADER, ""))


def shown(message: Message) -> httpbody_pb2.HttpBody:
    """A message as a body."""
    return shown_json(plain(message))


def shown_json(value: object) -> httpbody_pb2.HttpBody:
    """JSON as a body."""
    return httpbody_pb2.HttpBody(content_type=JSON, data=msgspec.json.encode(value))


def said(parameters: Mapping[str, Parameter]) -> dict[str, oip.InferParameter]:
    """Parameters as the messages of the Open Inference Protocol have them."""
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
