"""How the front proxy's own refusals read: a `google.rpc.Status` for REST, an error of its own form for Connect.

Callers who speak gRPC get a status in trailers, which the proxy writes by itself.
"""

from __future__ import annotations

from typing import Any

from mesh.errors import Code

__all__ = ["reply_mappers"]

_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 426: 3, 429: 8, 431: 3}
_CODES |= {500: 13, 502: 14, 503: 14, 504: 4}
"""Which `google.rpc.Code` a refusal of the proxy's own stands for, by its HTTP status."""
_REASONS = {3: "REQUEST_INVALID", 4: "DEADLINE_EXCEEDED", 5: "PATH_UNKNOWN", 7: "PERMISSION_DENIED"}
_REASONS |= {8: "LIMIT_EXCEEDED", 12: "METHOD_UNKNOWN", 13: "INTERNAL", 14: "SERVICE_UNAVAILABLE", 16: "TOKEN_INVALID"}


def reply_mappers() -> list[dict[str, Any]]:
    """What the proxy's answers are turned into, the first that fits."""
    return [mapper for status, code in _CODES.items() for mapper in (_to_connect(status, code), _to_rest(status, code))]


def _to_connect(status: int, code: int) -> dict[str, Any]:
    speaks_connect = {"name": "content-type", "string_match": {"exact": "application/grpc+json"}}  # the bridge's mark
    error = {"code": Code(code).name.lower(), "message": "%LOCAL_REPLY_BODY%"}
    return _mapper(status, {"header_filter": {"header": speaks_connect}}, error)


def _to_rest(status: int, code: int) -> dict[str, Any]:
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
        "reason": _REASONS[code],
        "domain": "gateway.tiation.dev",
        "metadata": {},
    }
    return _mapper(status, not_grpc, {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": [info]})


def _mapper(status: int, asked_so: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """What a status reads like to those who ask so."""
    is_status = {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": f"reply_{status}"}}
        }
    }
    return {
        "filter": {"and_filter": {"filters": [is_status, asked_so]}},
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }
