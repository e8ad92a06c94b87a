"""`roles`: named sets of permissions."""

from __future__ import annotations

from typing import Any

import click
from tiation.security.v1 import role_pb2 as pb
from tiation.security.v1 import role_pb2_grpc

from cli.resources import Kind, add_apply, add_create, add_looking

__all__ = ["roles"]


def _row(role: pb.Role) -> tuple[object, ...]:
    shown = ", ".join(role.permissions[:4]) + (", …" if len(role.permissions) > 4 else "")
    return role.name, role.title, shown


KIND = Kind(
    pb, role_pb2_grpc.RoleServiceStub, "Role", "role", "roles", "roles",
    ("role", "title", "permissions"), _row,
)  # fmt: skip


@click.group()
def roles() -> None:
    """Look after roles. The platform's own are those of `--tenant system`."""


def _fields(_owner: str, *, permission: tuple[str, ...], title: str, description: str) -> dict[str, Any]:
    return {"permissions": permission, "title": title, "description": description}


add_create(
    roles, KIND, "Create a role of the tenant's own.",
    "roles create model-pusher --permission engine.models.push --permission 'engine.models.*'",
    (
        click.option("--permission", multiple=True, help="service.resource.verb, `*` for each part; may be repeated."),
        click.option("--title", default="", help="A name for people."),
        click.option("--description", default="", help="What it is for."),
    ),
    _fields,
)  # fmt: skip
add_apply(roles, KIND, "model-pusher.yaml")
add_looking(roles, KIND, "model-pusher")
