"""Where each path leads at the front proxy, and how long an answer may take there; read from the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.gateway.contract import REFLECTED_BY, Backend, services

__all__ = ["SHARED", "routes"]

CLONE = Path(__file__).parents[2]
SHARED = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection", "grpc.health.v1.Health")
"""What every service serves, and one answers for all of them."""
_UNBUFFERED = {
    "typed_per_filter_config": {
        "envoy.filters.http.buffer": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
            "disabled": True,
        }
    }
}
"""gRPC is passed on as it comes; only REST is gathered, so that one that is too large is refused."""
_GRACE_S = 2.0
"""A service stops a call that takes too long itself and says so; the proxy does where the service does not."""


def routes() -> list[dict[str, Any]]:
    """Every route: REST paths end in 404 unless the transcoder has turned them into a method's."""
    made: list[dict[str, Any]] = [_answer("/healthz", {"inline_string": '{"status":"SERVING"}'}), _openapi()]
    for backend in services():
        made += [_internal(method.name) for method in backend.methods if method.internal]
        if backend.is_public:
            made += _to_methods(backend)
    return [*made, *(_to({"prefix": f"/{name}/"}, REFLECTED_BY, None) for name in SHARED), _nowhere()]


def _to_methods(backend: Backend) -> list[dict[str, Any]]:
    """One route a method that has a limit of time, and one for all the others of the service."""
    limited = [method for method in backend.methods if not method.internal and method.timeout_s is not None]
    return [
        *(_to({"path": f"/{method.name}"}, backend.cluster, method.timeout_s) for method in limited),
        _to({"prefix": f"/{backend.name}/"}, backend.cluster, None),
    ]


def _to(match: dict[str, str], cluster: str, timeout_s: float | None) -> dict[str, Any]:
    """A route to a service; without a limit of time only silence ends a call."""
    return {
        "match": match,
        "route": {
            "cluster": cluster,
            "timeout": "0s" if timeout_s is None else f"{timeout_s + _GRACE_S:g}s",
            "idle_timeout": "3600s",
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
        },
        **_UNBUFFERED,
    }


def _internal(method: str) -> dict[str, Any]:
    return {"match": {"path": f"/{method}"}, "direct_response": {"status": 404}, **_UNBUFFERED}


def _nowhere() -> dict[str, Any]:
    """Where REST enters: what the transcoder knows leaves for a method's route, the rest is told that it is lost.

    Only here readers may be answered that nothing has changed.
    """
    said = "there is nothing at this path; /openapi.json lists what there is"
    conditional = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": said}},
        "typed_per_filter_config": {"envoy.filters.http.lua": conditional},
    }


def _openapi() -> dict[str, Any]:
    return _answer("/openapi.json", {"filename": str(CLONE / "gen" / "openapi" / "tiation.openapi.json")})


def _answer(path: str, body: Mapping[str, str]) -> dict[str, Any]:
    """A path that the proxy answers itself, as JSON."""
    header = {
        "header": {"key": "content-type", "value": "application/json"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return {
        "match": {"path": path},
        "direct_response": {"status": 200, "body": dict(body)},
        "response_headers_to_add": [header],
    }
