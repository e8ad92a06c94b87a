"""Where each path leads at the front proxy, and how long an answer may take there; read from the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.assets import asset
from cli.gateway.contract import REFLECTED_BY, Backend, services

__all__ = ["SHARED", "routes"]

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
_NOT_REST = {
    "envoy.filters.http.grpc_json_transcoder": {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "disabled": True,
    }
}
_CONNECT_JSON = {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute",
    "name": "connect_json",
}
_ENABLED: Mapping[str, Any] = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
_TOO_LARGE: Mapping[str, Any] = {"tiation.too_large": _ENABLED, "tiation.too_large_taken": _ENABLED}
_GRACE_S = 2.0
"""A service stops a call that takes too long itself and says so; the proxy does where the service does not."""


def routes(sparse: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every route: REST paths end in 404 unless the transcoder has turned them into a method's.

    Args:
        sparse: the transcoder for methods whose answers name only the fields that are set.
    """
    made: list[dict[str, Any]] = [_answer("/healthz", {"inline_string": '{"status":"SERVING"}'}), _openapi()]
    for backend in services():
        made += [_internal(method.name) for method in backend.methods if method.internal]
        if backend.is_public:
            made += _to_methods(backend)
    return [
        *made,
        *(_to({"prefix": f"/{name}/"}, REFLECTED_BY, None) for name in SHARED),
        *_limited(),
        *_sparse(sparse),
        *_dialects(),
        _rest(),
        _nowhere(),
    ]


def _to_methods(backend: Backend) -> list[dict[str, Any]]:
    """One route a method that has a limit of time, and one for all the others of the service."""
    limited = [method for method in backend.methods if not method.internal and method.timeout_s is not None]
    everything: dict[str, Any] = {"prefix": f"/{backend.name}/"}
    is_json = {"name": "content-type", "string_match": {"exact": "application/json"}}
    return [
        _with_lua(_to({**everything, "headers": [is_json]}, backend.cluster, None), _CONNECT_JSON),
        *(_to({"path": f"/{method.name}"}, backend.cluster, method.timeout_s) for method in limited),
        _to(everything, backend.cluster, None),
    ]


def _to(match: dict[str, Any], cluster: str, timeout_s: float | None) -> dict[str, Any]:
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


def _rest() -> dict[str, Any]:
    """Where REST enters; the transcoder sends what it knows on to a method's route and refuses the rest.

    That it leads to a service at all is for browsers: the proxy looks here for which pages may call.
    """
    gathered = _to({"prefix": "/v1/"}, REFLECTED_BY, None)
    gathered["typed_per_filter_config"] = {**_TOO_LARGE, "tiation.unknown_fields": _ENABLED}
    return _with_lua(gathered, {})


def _dialects() -> list[dict[str, Any]]:
    """REST in others' words: bodies are passed on as they are, and errors read as its clients know them."""
    made = []
    for backend in services():
        for entry in backend.entries:
            gathered = _to({"path_separated_prefix": entry}, REFLECTED_BY, None)
            filters = {**_TOO_LARGE, f"tiation.{backend.dialect}": _ENABLED}
            made.append(_with_lua({**gathered, "typed_per_filter_config": filters}, {}))
    return made


def _limited() -> list[dict[str, Any]]:
    """REST paths whose bodies are refused at less than what is allowed everywhere."""
    made = []
    for path, max_bytes in (limited for backend in services() for limited in backend.limited_paths):
        buffer = {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": max_bytes},
        }
        gathered = {**_rest(), "match": {"safe_regex": {"regex": path}}}
        filters = {**gathered["typed_per_filter_config"], "envoy.filters.http.buffer": buffer}
        most = {"filter_metadata": {each: {"most_bytes": max_bytes} for each in _TOO_LARGE}}
        made.append({**gathered, "metadata": most, "typed_per_filter_config": filters})
    return made


def _sparse(transcoder: Mapping[str, Any]) -> list[dict[str, Any]]:
    """REST paths with a transcoder of their own."""
    entry = _rest()
    filters = {**entry["typed_per_filter_config"], "envoy.filters.http.grpc_json_transcoder": transcoder}
    paths = [path for backend in services() for path in backend.sparse_paths]
    return [{**entry, "match": {"safe_regex": {"regex": path}}, "typed_per_filter_config": filters} for path in paths]


def _with_lua(route: dict[str, Any], named: dict[str, str]) -> dict[str, Any]:
    """A route on which a program of `envoy/` runs: the named one, or the one for readers, which REST takes along."""
    enabled = {**_ENABLED, "config": named}
    filters = {**route.get("typed_per_filter_config", {}), "envoy.filters.http.lua": enabled}
    return {**route, "typed_per_filter_config": filters}


def _nowhere() -> dict[str, Any]:
    said = "there is nothing at this path; /openapi.json lists what there is"
    answer = {"status": 404, "body": {"inline_string": said}}
    return {"match": {"prefix": "/"}, "direct_response": answer, "typed_per_filter_config": _NOT_REST}


def _openapi() -> dict[str, Any]:
    document = {"filename": str(asset("gen/openapi/tiation.openapi.json"))}
    return _answer("/openapi.json", document, {"cache-control": "public, max-age=300"})


def _answer(path: str, body: Mapping[str, str], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A path that the proxy answers itself, as JSON."""
    return {
        "match": {"path": path},
        "direct_response": {"status": 200, "body": dict(body)},
        "typed_per_filter_config": _NOT_REST,
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in {"content-type": "application/json", **(headers or {})}.items()
        ],
    }
