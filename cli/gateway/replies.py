"""How the front proxy's own refusals read: a `google.rpc.Status` for REST, an error of its own form for Connect.

Callers who speak gRPC get a status in trailers, which the proxy writes by itself; of tokens it says ours there too.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.rpc import error_details_pb2, status_pb2

from cli.gateway.contract import paths_by_verbs
from mesh.errors import Code

__all__ = ["reply_mappers"]

_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 426: 3, 429: 8, 431: 3}
_CODES |= {500: 13, 502: 14, 503: 14, 504: 4}
"""Which `google.rpc.Code` a refusal of the proxy's own stands for, by its HTTP status."""
_REASONS = {3: "REQUEST_INVALID", 4: "DEADLINE_EXCEEDED", 5: "PATH_UNKNOWN", 7: "PERMISSION_DENIED"}
_REASONS |= {8: "LIMIT_EXCEEDED", 12: "METHOD_UNKNOWN", 13: "INTERNAL", 14: "SERVICE_UNAVAILABLE", 16: "TOKEN_INVALID"}


def reply_mappers() -> list[dict[str, Any]]:
    """What the proxy's answers are turned into, the first that fits."""
    known = [(400, 3, _ESCAPED_SLASH), (401, 16, _NO_TOKEN), (401, 16, _OLD_TOKEN), (401, 16, _BAD_TOKEN)]
    replies = [*known, *((status, code, _Reply(None, _REASONS[code])) for status, code in _CODES.items())]
    mappers = [mapper for each in replies for mapper in (_to_connect(*each), _to_rest(*each))]
    tokens = (_NO_TOKEN, _OLD_TOKEN, _BAD_TOKEN)
    return [*_wrong_verbs(), _to_rest(404, 5, _NOWHERE), *mappers, *(_to_grpc(401, 16, reply) for reply in tokens)]


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is said to a request of some kind.

    Attributes:
        kind: a filter that only requests of the kind pass; None for every request.
        reason: why, for programs.
        message: why, for people.
        shorter: the same without what the proxy itself says; empty where it says nothing of its own.
    """

    kind: Mapping[str, Any] | None
    reason: str
    message: str = "%LOCAL_REPLY_BODY%"
    shorter: str = ""


def _because(details: str) -> dict[str, Any]:
    """Refusals whose cause, as the proxy names it, is so."""
    expression = {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        "expression": f"response.code_details.{details}",
    }
    return {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": expression}}


_BEARER = {"name": "authorization", "string_match": {"prefix": "Bearer ", "ignore_case": True}}
_NO_TOKEN = _Reply(
    {"header_filter": {"header": {**_BEARER, "treat_missing_header_as_empty": True, "invert_match": True}}},
    "TOKEN_MISSING",
    "send an access token: Authorization: Bearer …; `tiation token` prints one",
)
_OLD_TOKEN = _Reply(
    _because("contains('Jwt_is_expired')"),
    "TOKEN_EXPIRED",
    "the access token has expired; get a new one with `tiation token`",
)
_BAD_TOKEN = _Reply(
    None,
    "TOKEN_INVALID",
    "the access token does not hold (%LOCAL_REPLY_BODY%); `tiation token` prints a new one",
    "the access token does not hold; `tiation token` prints a new one",
)
_NOWHERE = _Reply(
    _because("startsWith('early_grpc_json_transcode_failure{NOT_FOUND')"),
    "PATH_UNKNOWN",
    "there is nothing at this path; /openapi.json lists what there is",
)
_ESCAPED_SLASH = _Reply(
    _because("startsWith('path_normalization_failed')"),
    "REQUEST_INVALID",
    "the path cannot be read; it may hold no escaped slash (%%2f, %%5c), as no name has one",
)


def _to_connect(status: int, code: int, reply: _Reply) -> dict[str, Any]:
    speaks_connect = {"name": "content-type", "string_match": {"exact": "application/grpc+json"}}  # the bridge's mark
    error = {"code": Code(code).name.lower(), "message": reply.message}
    return _mapper(status, reply, {"header_filter": {"header": speaks_connect}}, error)


def _to_rest(status: int, code: int, reply: _Reply) -> dict[str, Any]:
    speaks_other = {
        "name": "content-type",
        "string_match": {"prefix": "application/grpc"},
        "treat_missing_header_as_empty": True,
        "invert_match": True,
    }
    was_rest = {"name": "x-envoy-original-method", "present_match": True}  # the transcoder's mark
    not_grpc = {
        "or_filter": {"filters": [{"header_filter": {"header": header}} for header in (speaks_other, was_rest)]}
    }
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.reason,
        "domain": "gateway.tiation.dev",
        "metadata": {},
    }
    return _mapper(status, reply, not_grpc, {"code": code, "message": reply.message, "details": [info]})


def _to_grpc(status: int, code: int, reply: _Reply) -> dict[str, Any]:
    """The status in trailers, with the same reason; gRPC's clients want its details to hold the same message."""
    message = reply.shorter or reply.message
    details = status_pb2.Status(code=code, message=message)
    details.details.add().Pack(error_details_pb2.ErrorInfo(reason=reply.reason, domain="gateway.tiation.dev"))
    encoded = base64.b64encode(details.SerializeToString(deterministic=True)).decode()
    speaks_grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    made = _mapper(status, reply, {"header_filter": {"header": speaks_grpc}}, {})
    return {
        **made,
        "body_format_override": {"text_format_source": {"inline_string": message}},
        "headers_to_add": [_header("grpc-status-details-bin", encoded)],
    }


def _wrong_verbs() -> list[dict[str, Any]]:
    """405 for a path that is there, and takes other verbs; to the transcoder it would be no path at all."""
    made = []
    for verbs, paths in paths_by_verbs().items():
        reply = _Reply(_NOWHERE.kind, _REASONS[12], f"this path takes {' and '.join(verbs)} only; see /openapi.json")
        mapper = _to_rest(404, 12, reply)
        mapper["filter"]["and_filter"]["filters"].append(_any(paths))
        made.append({**mapper, "status_code": 405, "headers_to_add": [_header("allow", ", ".join(verbs))]})
    return made


def _any(paths: Sequence[str]) -> dict[str, Any]:
    """A filter that requests of one of these paths pass, whatever their query."""
    filters = [
        {"header_filter": {"header": {"name": ":path", "string_match": {"safe_regex": {"regex": rf"{path}(\?.*)?"}}}}}
        for path in paths
    ]
    return {"or_filter": {"filters": filters}} if len(filters) > 1 else filters[0]


def _header(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _mapper(status: int, reply: _Reply, asked_so: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """What a status reads like to those who ask so."""
    is_status = {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": f"reply_{status}"}}
        }
    }
    is_kind = [dict(reply.kind)] if reply.kind else []
    return {
        "filter": {"and_filter": {"filters": [is_status, asked_so, *is_kind]}},
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }
