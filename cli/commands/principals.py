"""`principals`: the people and programs that act."""

from __future__ import annotations

from typing import Any

import click
from tiation.security.v1 import principal_pb2 as pb
from tiation.security.v1 import principal_pb2_grpc

from cli.apply import say_applied
from cli.client import connect
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.resources import Kind, add_apply, add_create, add_looking

__all__ = ["principals"]


def _row(principal: pb.Principal) -> tuple[object, ...]:
    kind = "person" if principal.kind == pb.Principal.PERSON else "program"
    return principal.name, principal.display_name, kind, "disabled" if principal.disabled else "active"


KIND = Kind(
    pb, principal_pb2_grpc.PrincipalServiceStub, "Principal", "principal", "principals", "principals",
    ("principal", "called", "kind", "state"), _row,
)  # fmt: skip


@click.group()
def principals() -> None:
    """Look after the people and programs that act."""


def _fields(_owner: str, *, person: bool, display_name: str) -> dict[str, Any]:
    kind = pb.Principal.PERSON if person else pb.Principal.PROGRAM
    return {"kind": kind, "display_name": display_name}


add_create(
    principals, KIND, "Create a principal. It may do nothing until something is bound to it.",
    "principals create ada --person",
    (
        click.option("--person", is_flag=True, help="A person; without it a program."),
        click.option("--display-name", default="", help="A name for people."),
    ),
    _fields,
)  # fmt: skip
add_apply(principals, KIND, "ada.yaml")
add_looking(principals, KIND, "ada")


def _switch(name: str, home: Home, tenant: str, output: str, *, disabled: bool) -> None:
    owner, _, full = KIND.split(tenant, name)
    with connect(home, KIND.stub, owner) as stub:
        changed = pb.Principal(name=full, disabled=disabled)
        found = KIND.call(stub, "Update", principal=changed, update_mask={"paths": ["disabled"]})
    say_applied(found, "disabled" if disabled else "enabled", output)


@principals.command()
@click.argument("name")
@tenant_option
@home_option
@output_option
def disable(name: str, home: Home, tenant: str, output: str) -> None:
    """Refuse a principal everywhere, from within a second on; its tokens end for good.

    \b
    Example:
      tiation principals disable ada
    """  # noqa: D301 -- \b is click's
    _switch(name, home, tenant, output, disabled=True)


@principals.command()
@click.argument("name")
@tenant_option
@home_option
@output_option
def enable(name: str, home: Home, tenant: str, output: str) -> None:
    """Let a principal that was disabled act again, with new tokens.

    \b
    Example:
      tiation principals enable ada
    """  # noqa: D301 -- \b is click's
    _switch(name, home, tenant, output, disabled=False)
