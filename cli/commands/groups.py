"""`groups`: principals that are given roles together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from tiation.security.v1 import group_pb2 as pb
from tiation.security.v1 import group_pb2_grpc

from cli.apply import say_applied
from cli.client import TIMEOUT_S, connect
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.resources import Kind, add_apply, add_create, add_looking

__all__ = ["groups"]


def _row(group: pb.Group) -> tuple[object, ...]:
    short = [member.split("/", 2)[2] for member in group.members]
    return group.name, group.display_name, ", ".join(short[:5]) + (", …" if len(short) > 5 else "")


def _sort(group: pb.Group, _owner: str) -> None:
    group.members.sort()


KIND = Kind(
    pb, group_pb2_grpc.GroupServiceStub, "Group", "group", "groups", "groups",
    ("group", "called", "members"), _row, _sort,
)  # fmt: skip


@click.group()
def groups() -> None:
    """Look after groups of principals."""


def _names(owner: str, members: Sequence[str]) -> list[str]:
    """Full names: `ada` is a principal, `groups/support` a group."""
    found = []
    for member in members:
        below = member if "/" in member else f"principals/{member}"
        found.append(member if member.startswith("tenants/") else f"tenants/{owner}/{below}")
    return sorted(set(found))


def _fields(owner: str, *, member: tuple[str, ...], display_name: str) -> dict[str, Any]:
    return {"members": _names(owner, member), "display_name": display_name}


add_create(
    groups, KIND, "Create a group. Members are principals (`ada`) and groups (`groups/support`).",
    "groups create support --member ada --member groups/night-shift",
    (
        click.option("--member", multiple=True, help="Who belongs to it; may be repeated."),
        click.option("--display-name", default="", help="A name for people."),
    ),
    _fields,
)  # fmt: skip
add_apply(groups, KIND, "support.yaml")
add_looking(groups, KIND, "support")


@groups.command()
@click.argument("name")
@click.argument("members", nargs=-1, required=True)
@tenant_option
@home_option
@output_option
def add(name: str, members: tuple[str, ...], home: Home, tenant: str, output: str) -> None:
    """Add MEMBERS to a group.

    \b
    Example:
      tiation groups add support ada groups/night-shift
    """  # noqa: D301 -- \b is click's
    owner, _, full = KIND.split(tenant, name)
    with connect(home, KIND.stub, owner) as stub:
        request = pb.AddMembersRequest(name=full, members=_names(owner, members))
        found = stub.AddMembers(request, timeout=TIMEOUT_S)
    say_applied(found, f"has {len(found.members)} members", output)


@groups.command()
@click.argument("name")
@click.argument("members", nargs=-1, required=True)
@tenant_option
@home_option
@output_option
def remove(name: str, members: tuple[str, ...], home: Home, tenant: str, output: str) -> None:
    """Take MEMBERS out of a group; what they had through it ends within a second.

    \b
    Example:
      tiation groups remove support ada
    """  # noqa: D301 -- \b is click's
    owner, _, full = KIND.split(tenant, name)
    with connect(home, KIND.stub, owner) as stub:
        request = pb.RemoveMembersRequest(name=full, members=_names(owner, members))
        found = stub.RemoveMembers(request, timeout=TIMEOUT_S)
    say_applied(found, f"has {len(found.members)} members", output)
