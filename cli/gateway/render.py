"""The front proxy's configuration: the templates in `envoy/`, filled with what settings and contracts say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.gateway.contract import REFLECTED_BY, services
from cli.gateway.sds import SECRETS
from mesh.channel import ASSERTION_HEADER
from mesh.config import SERVICES, Settings, processes_of
from mesh.host import issuer_of
from mesh.identity import spiffe_id
from mesh.svid import write_private

__all__ = ["render", "write_configuration"]

CLONE = Path(__file__).parents[2]
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 426: 3, 429: 8, 431: 3}
_CODES |= {500: 13, 502: 14, 503: 14, 504: 4}
"""Which `google.rpc.Code` a refusal of the proxy's own stands for, by its HTTP status."""
_REASONS = {3: "REQUEST_INVALID", 4: "DEADLINE_EXCEEDED", 5: "PATH_UNKNOWN", 7: "PERMISSION_DENIED"}
_REASONS |= {8: "LIMIT_EXCEEDED", 12: "METHOD_UNKNOWN", 13: "INTERNAL", 14: "SERVICE_UNAVAILABLE", 16: "TOKEN_INVALID"}
_SHARED = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection", "grpc.health.v1.Health")


def write_configuration(settings: Settings, home: Path) -> Path:
    """Write the configuration into the home and return where it is."""
    (home / "gateway").mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "gateway" / "envoy.json"
    write_private(path, json.dumps(render(settings, home), indent=1))
    return path


def render(settings: Settings, home: Path) -> dict[str, Any]:
    """The whole configuration.

    Args:
        settings: with the address of every service.
        home: the state folder, where certificates, keys and logs are.
    """
    gateway = settings.gateway
    manager = _filled(
        "http_connection_manager.yaml",
        {
            "rate": max(1, gateway.requests_per_second // 10),
            "burst": gateway.requests_per_second,
            "issuer": issuer_of(settings.trust_domain),
            "jwks": str(home / "security" / "jwks.json"),
            "token_rules": _token_rules(),
            "max_request_bytes": gateway.max_request_bytes,
            "descriptors": str(CLONE / "gen" / "envoy" / "descriptors.binpb"),
            "rest_services": [backend.name for backend in services() if backend.is_public and backend.has_rest],
            "access_log": str(home / "logs" / "gateway.log"),
            "reply_mappers": [_reply(status, code) for status, code in _CODES.items()],
            "removed_headers": [ASSERTION_HEADER],
            "routes": _routes(),
        },
    )
    configuration: dict[str, Any] = _filled(
        "bootstrap.yaml",
        {
            "admin_socket": str(home / "gateway" / "admin.sock"),
            "host": gateway.host,
            "port": gateway.port,
            "front_secret": _secret(home, "front"),
            "http_connection_manager": manager,
            "clusters": [_cluster(settings, home, service) for service in SERVICES],
        },
    )
    return configuration


def _cluster(settings: Settings, home: Path, service: str) -> Any:  # noqa: ANN401 -- a piece of configuration
    processes = [name for name, of in processes_of(settings).items() if of == service]
    return _filled(
        "cluster.yaml",
        {
            "service": service,
            "endpoints": [_endpoint(settings.services[name].address) for name in processes],
            "server_name": f"{service}.{settings.trust_domain}",
            "identity": spiffe_id(settings.trust_domain, service),
            "svid_secret": _secret(home, "svid"),
            "bundle_secret": _secret(home, "bundle"),
        },
    )


def _endpoint(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


def _token_rules() -> list[dict[str, Any]]:
    """What needs no token; everything else does."""
    open_paths: list[dict[str, Any]] = [{"path": "/healthz"}, {"path": "/openapi.json"}]
    open_paths += [{"prefix": f"/{name}/"} for name in _SHARED]
    for backend in services():
        open_paths += [{"path": f"/{method.name}"} for method in backend.methods if method.anyone]
        open_paths += [{"safe_regex": {"regex": path}} for path in backend.open_paths]
    return [
        *({"match": match} for match in open_paths),
        {"match": {"prefix": "/"}, "requires": {"provider_name": "tiation"}},
    ]


def _routes() -> list[dict[str, Any]]:
    """Where each path leads: REST paths end in 404 unless the transcoder has turned them into a method's."""
    unbuffered = _per_route("buffer.v3.BufferPerRoute", disabled=True)
    routes: list[dict[str, Any]] = [_answer("/healthz", {"inline_string": '{"status":"SERVING"}'}), _openapi()]
    for backend in services():
        routes += [
            {"match": {"path": f"/{method.name}"}, "direct_response": {"status": 404}} | unbuffered
            for method in backend.methods
            if method.internal
        ]
        if backend.is_public:
            routes.append(_grpc_route(backend.name, backend.cluster) | unbuffered)
    routes += [_grpc_route(name, REFLECTED_BY) | unbuffered for name in _SHARED]
    return [
        *routes,
        {"match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": _UNKNOWN}}},
    ]


_UNKNOWN = "there is nothing at this path; /openapi.json lists what there is"


def _grpc_route(name: str, cluster: str) -> dict[str, Any]:
    return {
        "match": {"prefix": f"/{name}/"},
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "idle_timeout": "3600s",
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
        },
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


def _per_route(kind: str, **fields: object) -> dict[str, Any]:
    name = f"envoy.filters.http.{kind.split('.', 1)[0]}"
    return {
        "typed_per_filter_config": {
            name: {"@type": f"type.googleapis.com/envoy.extensions.filters.http.{kind}", **fields}
        }
    }


def _reply(status: int, code: int) -> dict[str, Any]:
    """How the proxy's own refusal reads to a caller who does not speak gRPC: a `google.rpc.Status`."""
    is_status = {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": f"reply_{status}"}}
        }
    }
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
    return {
        "filter": {"and_filter": {"filters": [is_status, not_grpc]}},
        "body_format_override": {
            "json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": [info]},
            "content_type": "application/json",
        },
    }


def _secret(home: Path, name: str) -> dict[str, Any]:
    return {"path_config_source": {"path": str(home / "gateway" / SECRETS[name])}, "resource_api_version": "V3"}


def _filled(template: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- a piece of configuration
    """A template with every `<name>` replaced by its value."""

    def fill(node: Any) -> Any:  # noqa: ANN401 -- as above
        if isinstance(node, dict):
            return {key: fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(value) for value in node]
        if isinstance(node, str) and node.startswith("<") and node.endswith(">"):
            return values[node[1:-1]]
        return node

    return fill(yaml.safe_load((CLONE / "envoy" / template).read_text()))
