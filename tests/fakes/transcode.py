"""A REST request as the gRPC call that its contract says it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import grpc
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor

__all__ = ["call_as_grpc"]

_SET = Path(__file__).parents[2] / "gen" / "envoy" / "descriptors.binpb"


@cache
def _rules() -> list[tuple[str, re.Pattern[str], str, MethodDescriptor]]:
    """Every HTTP rule: verb, path, body field, method; in a pool of its own."""
    described = descriptor_pb2.FileDescriptorSet.FromString(_SET.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return [rule for file in described.file for rule in _rules_of(pool, file)]


def _rules_of(pool, file) -> Iterator[tuple[str, re.Pattern[str], str, MethodDescriptor]]:
    for service in pool.FindFileByName(file.name).services_by_name.values():
        for method in service.methods:
            # the options come from another pool: read again with the extension known
            options = descriptor_pb2.MethodOptions.FromString(method.GetOptions().SerializeToString())
            http = options.Extensions[annotations_pb2.http]
            if verb := http.WhichOneof("pattern"):
                yield verb.upper(), _regex(getattr(http, verb)), http.body, method


def _regex(template: str) -> re.Pattern[str]:
    def variable(match: re.Match[str]) -> str:
        name, pattern = match[1].replace(".", "__"), match[2] or "*"
        return f"(?P<{name}>{pattern.replace('**', '.+').replace('*', '[^/]+')})"

    return re.compile(re.sub(r"\{([\w.]+)(?:=([^}]*))?\}", variable, template))


def _found(verb: str, path: str) -> tuple[re.Match[str], str, MethodDescriptor]:
    for of_rule, pattern, body_field, method in _rules():
        if of_rule == verb and (found := pattern.fullmatch(path)):
            return found, body_field, method
    raise LookupError(path)


def call_as_grpc(channel: grpc.Channel, verb: str, path: str, body: Any) -> grpc.StatusCode:
    """Make the call of a REST request over gRPC; returns its status.

    Raises:
        LookupError: no contract has such a path.
        google.protobuf.json_format.ParseError: no message can say what the request says.
    """
    parts = urlsplit(path)
    found, body_field, method = _found(verb, parts.path)
    given: dict[str, Any] = dict(parse_qsl(parts.query))
    given |= {name: value for name, value in found.groupdict().items() if "__" not in name}
    if body is not None:
        given |= body if body_field == "*" else {body_field: body}
    request = json_format.ParseDict(given, message_factory.GetMessageClass(method.input_type)())
    answer = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    try:
        call(request, timeout=10)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
