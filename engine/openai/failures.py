"""How an error reads in a stream that has begun; before that the front proxy writes the same of a call's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.errors import Code, TiationError

__all__ = ["failure"]

_TYPES: Mapping[Code, str] = {
    Code.INVALID_ARGUMENT: "invalid_request_error",
    Code.FAILED_PRECONDITION: "invalid_request_error",
    Code.UNAUTHENTICATED: "authentication_error",
    Code.PERMISSION_DENIED: "permission_error",
    Code.NOT_FOUND: "not_found_error",
    Code.RESOURCE_EXHAUSTED: "rate_limit_error",
}


def failure(error: BaseException) -> dict[str, Any]:
    """An error as OpenAI's clients know it; one that nobody expected is told without its text."""
    if not isinstance(error, TiationError):
        return _said("something went wrong on our side", "server_error", None, "internal")
    kind = _TYPES.get(error.code, "server_error")
    param = error.violations[0].field if error.violations else None
    return _said(error.message, kind, param, error.reason.lower())


def _said(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
