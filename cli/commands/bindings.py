"""`bindings`: who has which role on what, or is denied it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from tiation.security.v1 import binding_pb2 as pb
from tiation.security.v1 import binding_pb2_grpc

from cli.options import full_name
from cli.resources import Kind, add_apply, add_create, add_looking

__all__ = ["bindings"]

_SYSTEM_ROLES = ("admin", "auditor", "developer", "operator", "viewer")


def _row(binding: pb.Binding) -> tuple[object, ...]:
    effect = "denies" if binding.effect == pb.Binding.DENY else "allows"
    until = binding.expire_time.ToJsonString() if binding.HasField("expire_time") else ""
    when = "some" if binding.HasField("condition") else ""
    return binding.name, effect, binding.principal or binding.group, binding.role, binding.resource, until, when


def _complete(binding: pb.Binding, owner: str) -> None:
    binding.resource = binding.resource or f"tenants/{owner}"
    binding.effect = binding.effect or pb.Binding.ALLOW


KIND = Kind(
    pb, binding_pb2_grpc.BindingServiceStub, "Binding", "binding", "bindings", "bindings",
    ("binding", "effect", "who", "role", "resource", "until", "conditions"), _row, _complete,
)  # fmt: skip


@click.group()
def bindings() -> None:
    """Give roles to principals and groups, or deny them."""


def _fields(
    owner: str, *, principal: str, group: str, role: str, resource: str, deny: bool, expire: datetime | None
) -> dict[str, Any]:
    if bool(principal) == bool(group):
        raise click.UsageError("say who: exactly one of --principal and --group")
    keeper = "system" if role in _SYSTEM_ROLES else owner
    fields: dict[str, Any] = {
        "role": full_name(keeper, "roles", role),
        "resource": resource,
        "effect": pb.Binding.DENY if deny else pb.Binding.ALLOW,
        "principal": full_name(owner, "principals", principal) if principal else "",
        "group": full_name(owner, "groups", group) if group else "",
    }
    if expire is not None:
        fields["expire_time"] = expire.astimezone()
    return fields


add_create(
    bindings, KIND, "Give a role to a principal or a group, or deny what it allows.",
    "bindings create support-views --group support --role viewer --expire 2030-01-31",
    (
        click.option("--principal", default="", help="Who."),
        click.option("--group", default="", help="Who, by a group."),
        click.option("--role", required=True, help="Which role, the tenant's own or the platform's."),
        click.option("--resource", default="", help="On what, by its full name; without it the whole tenant."),
        click.option("--deny", is_flag=True, help="Deny what the role allows, whatever else allows it."),
        click.option("--expire", type=click.DateTime(), default=None, help="Until when, in this machine's time."),
    ),
    _fields,
)  # fmt: skip
add_apply(bindings, KIND, "support-views.yaml")
add_looking(bindings, KIND, "support-views")
