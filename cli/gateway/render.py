"""The front proxy's configuration: the templates in `envoy/`, filled with what settings and contracts say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.assets import asset
from cli.gateway.bodies import unknown_fields_program
from cli.gateway.contract import services
from cli.gateway.cors import cors_policy
from cli.gateway.replies import reply_mappers
from cli.gateway.routes import SHARED, routes
from cli.gateway.sds import SECRETS
from cli.gateway.tracing import collector_clusters, tracing
from mesh.channel import ASSERTION_HEADER
from mesh.config import SERVICES, Settings, processes_of
from mesh.identity import issuer_of, spiffe_id
from mesh.stages.codec import CODEC_HEADER
from mesh.svid import write_private

__all__ = ["render", "write_configuration"]

_ASSETS = (
    "gen/envoy/descriptors.binpb",
    "gen/openapi/tiation.openapi.json",
    "envoy/not_modified.lua",
    "envoy/connect_json.lua",
)
"""Files of ours that the configuration names."""


def write_configuration(settings: Settings, home: Path) -> Path:
    """Write the configuration into the home and return where it is.

    For a proxy that somebody else runs, `gateway/` in the home holds everything that the configuration names: nothing
    else of the home need be shown to it.
    """
    folder = home / "gateway"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps(render(settings, home), indent=1)
    if not settings.gateway.managed:
        jwks = home / "security" / "jwks.json"
        for file in (*(asset(each) for each in _ASSETS), jwks):
            shutil.copyfile(file, folder / file.name)
            text = text.replace(json.dumps(str(file)), json.dumps(str(folder / file.name)))
        log = str(home / "logs" / "gateway.log")
        text = text.replace(json.dumps(log), json.dumps("/dev/stdout"))
    path = folder / "envoy.json"
    write_private(path, text)
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
            "transcoder": _transcoder(settings, every_field=True),
            "access_log": str(home / "logs" / "gateway.log"),
            "reply_mappers": reply_mappers(),
            "removed_headers": [ASSERTION_HEADER],
            "codec_header": CODEC_HEADER,
            "tracing": tracing(settings.tracing),
            "not_modified": str(asset("envoy/not_modified.lua")),
            "connect_json": str(asset("envoy/connect_json.lua")),
            "open_inference": _dialect_program("open_inference"),
            "openai": _dialect_program("openai"),
            "too_large": _too_large_program(gateway.max_request_bytes),
            "unknown_fields": unknown_fields_program(),
            "cors": cors_policy(gateway.cors_origins),
            "routes": routes(_transcoder(settings, every_field=False)),
        },
    )
    configuration: dict[str, Any] = _filled(
        "bootstrap.yaml",
        {
            "admin_socket": str(home / "gateway" / "admin.sock"),
            "host": gateway.host,
            "port": gateway.port,
            "max_connections": gateway.max_connections,
            "certificates": _certificates(settings, home),
            "http_connection_manager": manager,
            "clusters": [
                *(_cluster(settings, home, service) for service in SERVICES),
                *collector_clusters(settings.tracing),
            ],
        },
    )
    return configuration


def _transcoder(settings: Settings, *, every_field: bool) -> dict[str, Any]:
    """Between REST and gRPC; answers name every field, or those that are set."""
    values = {
        "descriptors": str(asset("gen/envoy/descriptors.binpb")),
        "rest_services": [backend.name for backend in services() if backend.is_public and backend.has_rest],
        "every_field": every_field,
        "max_request_bytes": settings.gateway.max_request_bytes,
    }
    return dict(_filled("transcoder.yaml", values))


def _cluster(settings: Settings, home: Path, service: str) -> Any:  # noqa: ANN401 -- a piece of configuration
    processes = [name for name, of in processes_of(settings).items() if of == service]
    return _filled(
        "cluster.yaml",
        {
            "service": service,
            "endpoints": [_endpoint(settings.services[name].address) for name in processes],
            "max_calls": settings.gateway.max_calls,
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
    open_paths += [{"prefix": f"/{name}/"} for name in SHARED]
    for backend in services():
        open_paths += [{"path": f"/{method.name}"} for method in backend.methods if method.anyone]
        open_paths += [{"safe_regex": {"regex": path}} for path in backend.open_paths]
    return [
        *({"match": match} for match in open_paths),
        {"match": {"prefix": "/"}, "requires": {"provider_name": "tiation"}},
    ]


def _too_large_program(most_bytes: int) -> str:
    return f"local most_bytes = {most_bytes}\n{asset('envoy/too_large.lua').read_text()}"


def _dialect_program(dialect: str) -> str:
    return f'local dialect = "{dialect}"\n{asset("envoy/dialects.lua").read_text()}'


def _certificates(settings: Settings, home: Path) -> list[dict[str, Any]]:
    """What clients are shown: by the name that they ask for, the first where they ask for none or another one."""
    shown = ["front", "own"] if settings.gateway.certificate else ["front"]
    return [{"name": name, "sds_config": _secret(home, name)} for name in shown]


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

    return fill(yaml.safe_load(asset(f"envoy/{template}").read_text()))
