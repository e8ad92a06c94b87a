"""The front proxy's own spans: where it sends them, and how many of the traces that begin there are sampled."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from mesh.config import TracingSettings

__all__ = ["collector_clusters", "tracing"]

_COLLECTOR = "collector"
_TYPES = "type.googleapis.com/envoy"
_SAMPLERS = f"{_TYPES}.extensions.tracers.opentelemetry.samplers.v3"


def tracing(settings: TracingSettings) -> dict[str, Any] | None:
    """What the proxy traces; None where there is no collector. A caller's own `traceparent` goes through either way."""
    if not settings.endpoint:
        return None
    return {
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{_TYPES}.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": _COLLECTOR}, "timeout": "1s"},
                "service_name": "gateway",
                "sampler": _sampler(settings.sample_ratio),
            },
        },
        "random_sampling": {"value": 100.0},  # the sampler decides, and not before a caller who has decided
        "spawn_upstream_span": False,
    }


def _sampler(ratio: float) -> dict[str, Any]:
    """A caller's decision is followed; of the traces that begin here a share is kept."""
    share = {"numerator": round(ratio * 1_000_000), "denominator": "MILLION"}
    by_chance = {
        "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "typed_config": {"@type": f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig", "sampling_percentage": share},
    }
    return {
        "name": "envoy.tracers.opentelemetry.samplers.parent_based",
        "typed_config": {"@type": f"{_SAMPLERS}.ParentBasedSamplerConfig", "wrapped_sampler": by_chance},
    }


def collector_clusters(settings: TracingSettings) -> list[dict[str, Any]]:
    """The collector behind the proxy, if there is one."""
    if not settings.endpoint:
        return []
    place = urlsplit(settings.endpoint)
    secure = place.scheme == "https"
    address = {"address": place.hostname, "port_value": place.port or (443 if secure else 4317)}
    cluster: dict[str, Any] = {
        "name": _COLLECTOR,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": _COLLECTOR,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": address}}}]}],
        },
    }
    if secure:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": place.hostname,
                "auto_sni_san_validation": True,
                "common_tls_context": {
                    "validation_context": {"trusted_ca": {"filename": "/etc/ssl/certs/ca-certificates.crt"}}
                },
            },
        }
    return [cluster]
