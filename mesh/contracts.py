"""Every contract of the platform, by the service that serves it: for those who must know them all.

A service loads the contracts it serves; the front proxy and reflection describe all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from google.protobuf import descriptor_pool
from tiation.mesh.v1 import options_pb2

from mesh.foreign import FOREIGN

__all__ = ["CONTRACTS", "permissions", "proto_services", "public_services"]

CONTRACTS: Mapping[str, tuple[str, ...]] = {
    "security": tuple(
        f"tiation/security/v1/{resource}.proto"
        for resource in (
            "tenant", "principal", "group", "api_key", "role", "binding", "access", "record", "token", "policy",
            "workload",
        )
    ),
    "engine": (
        *(
            f"tiation/engine/v1/{resource}.proto"
            for resource in ("model", "decision", "prediction", "inference_rest", "openai", "ranking", "bandit")
        ),
        "inference/grpc_service.proto",
    ),
    "orchestrator": tuple(
        f"tiation/orchestrator/v1/{resource}.proto" for resource in ("agent", "revision", "run", "approval", "schedule")
    ),
    "integration": tuple(f"tiation/integration/v1/{resource}.proto" for resource in ("connection", "fetch", "webhook")),
    "analytics": ("tiation/analytics/v1/metric.proto",),
}  # fmt: skip
"""The .proto files, by service."""


def proto_services() -> dict[str, str]:
    """The full name of every proto service, with the service of ours that serves it; loads every contract."""
    found: dict[str, str] = {}
    for service, files in CONTRACTS.items():
        for path in files:
            module = import_module(path.removesuffix(".proto").replace("/", ".") + "_pb2")
            found |= {described.full_name: service for described in module.DESCRIPTOR.services_by_name.values()}
    return found


def public_services() -> list[str]:
    """The full names of those that have something for users."""
    pool = descriptor_pool.Default()
    return [name for name in proto_services() if _is_public(pool.FindServiceByName(name))]


def permissions() -> set[str]:
    """Every permission that some method needs, whoever serves it; loads every contract."""
    pool = descriptor_pool.Default()
    found = {
        method.GetOptions().Extensions[options_pb2.access].permission  # type: ignore[index]
        for name in proto_services()
        for method in pool.FindServiceByName(name).methods
    }
    found |= {method.permission for methods in FOREIGN.values() for method in methods.values()}
    return found - {""}


def _is_public(service: object) -> bool:
    methods = service.methods  # type: ignore[attr-defined]
    visibilities = [method.GetOptions().Extensions[options_pb2.access].visibility for method in methods]
    return any(visibility != options_pb2.Access.INTERNAL for visibility in visibilities)
