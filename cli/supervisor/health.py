"""Whether a service serves: gRPC's own health check, over mutual TLS."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

__all__ = ["is_serving", "mesh_channel"]


def mesh_channel(address: str, service: str, trust_domain: str, svid: Mapping[str, str]) -> grpc.aio.Channel:
    """A channel to a service with a workload's certificate."""
    credentials = grpc.ssl_channel_credentials(
        svid["trust_bundle"].encode(), svid["private_key"].encode(), svid["certificate_chain"].encode()
    )
    options = [
        ("grpc.ssl_target_name_override", f"{service}.{trust_domain}"),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 300),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.secure_channel(address, credentials, options=options)


async def is_serving(address: str, service: str, trust_domain: str, svid: Mapping[str, str]) -> bool:
    """Whether the service says SERVING within a second."""
    async with mesh_channel(address, service, trust_domain, svid) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
