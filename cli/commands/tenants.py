"""`tenants`: the organisations that share the platform."""

from __future__ import annotations

from typing import Any

import click
from tiation.security.v1 import limits_pb2, tenant_pb2_grpc
from tiation.security.v1 import tenant_pb2 as pb

from cli.resources import Kind, add_apply, add_create, add_looking

__all__ = ["tenants"]


def _row(tenant: pb.Tenant) -> tuple[object, ...]:
    total = _limits(tenant.limits) if tenant.HasField("limits") else ""
    each = _limits(tenant.principal_limits) if tenant.HasField("principal_limits") else ""
    return tenant.name, tenant.display_name, total, each


def _limits(limits: limits_pb2.Limits) -> str:
    """What is limited, in the words of a file; the contract takes 0 for no limit."""
    return ", ".join(f"{field.json_name} {value}" for field, value in limits.ListFields()) or "none"


KIND = Kind(
    pb, tenant_pb2_grpc.TenantServiceStub, "Tenant", "tenant", "tenants", "tenants",
    ("tenant", "called", "limits", "limits of each principal"), _row,
)  # fmt: skip


@click.group()
def tenants() -> None:
    """Look after the tenants: organisations that share the platform and see nothing of each other.

    Other commands act in one of them with --tenant. `default` is there from the beginning; so is `system`, which
    holds what ships with the platform.

    A file for `apply` may say how much a tenant asks for altogether, and how much each of its principals:

    \b
      name: acme
      displayName: Acme Inc.
      limits: {requestsPerSecond: 500, concurrentCalls: 100}
      principalLimits: {requestsPerSecond: 50}
    """  # noqa: D301 -- \b is click's


def _fields(_owner: str, *, display_name: str) -> dict[str, Any]:
    return {"display_name": display_name}


add_create(
    tenants, KIND,
    "Create a tenant. Nobody but the platform's operator acts in it until it has principals and bindings.\n\n"
    "Limits are given with `tiation tenants apply`.",
    "tenants create acme --display-name 'Acme Inc.'",
    (click.option("--display-name", default="", help="A name for people."),),
    _fields,
)  # fmt: skip
add_apply(tenants, KIND, "acme.yaml")
add_looking(
    tenants, KIND, "acme",
    ending=" From within a second on nobody acts in it, and its name is never given again.",
)  # fmt: skip
