"""`call: http` and `call: grpc` as integration's FetchService takes them, and what its answers make."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from tiation.integration.v1 import fetch_pb2 as pb

from mesh.errors import InvalidError
from mesh.json_value import json_to_struct, json_to_value, value_to_json
from orchestrator.errors import HttpStatusError

__all__ = ["grpc_request", "http_output", "http_request"]

_WITHOUT_EFFECT = frozenset({"GET", "HEAD", "OPTIONS"})
_TEXTS = ("text/", "application/xml", "application/javascript", "application/x-www-form-urlencoded")


def http_request(parent: str, arguments: Mapping[str, Any], effect_key: str) -> pb.FetchRequest:
    """The request of `call: http`.

    Raises:
        InvalidError: an argument is none that a request can carry.
    """
    method = _text("method", arguments["method"]).upper()
    request = pb.FetchRequest(
        parent=parent,
        method=method,
        uri=_text("endpoint", arguments["endpoint"]),
        headers=_texts("headers", arguments.get("headers")),
        query=_texts("query", arguments.get("query")),
        effect_key="" if method in _WITHOUT_EFFECT else effect_key,
        follow_redirects=_flag("redirect", arguments.get("redirect")),
    )
    if "timeout" in arguments:
        request.timeout.FromTimedelta(timedelta(seconds=arguments["timeout"]))
    body: Any = arguments.get("body")
    if body is not None:
        request.body.CopyFrom(json_to_value(body, "body"))
    return request


def http_output(arguments: Mapping[str, Any], request: pb.FetchRequest, answer: pb.FetchResponse) -> Any:  # noqa: ANN401
    """What a step makes of an answer: its content, the bytes of it in base64, or all of it.

    Raises:
        HttpStatusError: the status says that it failed.
    """
    if not 200 <= answer.status < (400 if request.follow_redirects else 300):
        raise HttpStatusError(f"{request.method} {request.uri} answers {answer.status}", status=answer.status)
    content = value_to_json(answer.body, "body") if answer.HasField("body") else None
    match arguments.get("output", "content"):
        case "raw":
            return _raw(content, answer.headers.get("content-type", ""))
        case "response":
            asked = {"method": request.method, "uri": request.uri, "headers": dict(request.headers)}
            headers = dict(answer.headers)
            return {"request": asked, "statusCode": answer.status, "headers": headers, "content": content}
        case _:
            return content


def _raw(content: Any, kind: str) -> str:  # noqa: ANN401 -- any JSON
    """The body in base64; what is JSON is written out anew."""
    if content is None:
        return ""
    if not isinstance(content, str) or "json" in kind:
        return base64.b64encode(msgspec.json.encode(content)).decode()
    if not kind.startswith(_TEXTS):
        try:  # integration gives what is no text in base64 already
            base64.b64decode(content, validate=True)
        except binascii.Error:
            pass
        else:
            return content
    return base64.b64encode(content.encode()).decode()


def grpc_request(parent: str, arguments: Mapping[str, Any], effect_key: str) -> pb.CallGrpcRequest:
    """The request of `call: grpc`.

    Raises:
        InvalidError: an argument is none that a request can carry.
    """
    service = arguments["service"]
    host, port = _text("service.host", service.get("host")), service.get("port", 443)
    if isinstance(port, bool) or not isinstance(port, (int, float)) or not 1 <= port <= 65_535 or port != int(port):
        raise InvalidError("service.port", "must be a port, 1 to 65535")
    request = pb.CallGrpcRequest(
        parent=parent,
        target=f"{host}:{int(port)}",
        plaintext=_flag("plaintext", arguments.get("plaintext")),
        service=_text("service.name", service.get("name")),
        method=_text("method", arguments["method"]),
        effect_key=effect_key,
    )
    if "timeout" in arguments:
        request.timeout.FromTimedelta(timedelta(seconds=arguments["timeout"]))
    given = arguments.get("arguments") or {}
    if not isinstance(given, dict):
        raise InvalidError("arguments", "must be an object, the request's fields by name")
    request.arguments.CopyFrom(json_to_struct(given, "arguments"))
    return request


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidError(field, "must be a text")
    return value


def _flag(field: str, value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise InvalidError(field, "must be true or false")
    return bool(value)


def _texts(field: str, value: object) -> dict[str, str]:
    """Names and texts; numbers and truth values become texts."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError(field, "must be an object")
    texts = {}
    for name, each in value.items():
        if isinstance(each, (dict, list)) or each is None:
            raise InvalidError(f"{field}.{name}", "must be a text, a number, true or false")
        texts[name] = each if isinstance(each, str) else msgspec.json.encode(each).decode()
    return texts
