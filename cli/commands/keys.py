"""`keys`: API keys, which programs exchange for tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from tiation.security.v1 import api_key_pb2 as pb
from tiation.security.v1 import api_key_pb2_grpc

from cli.options import full_name
from cli.output import as_json, print_json
from cli.resources import Kind, add_create, add_looking

__all__ = ["keys"]


def _row(key: pb.ApiKey) -> tuple[object, ...]:
    until = key.expire_time.ToJsonString() if key.HasField("expire_time") else ""
    return key.name, key.principal, key.display_name, until


KIND = Kind(
    pb, api_key_pb2_grpc.ApiKeyServiceStub, "ApiKey", "api_key", "apiKeys", "keys",
    ("display_name", "expire_time", "labels"), ("key", "principal", "called", "until"), _row,
)  # fmt: skip


@click.group()
def keys() -> None:
    """Look after API keys."""


def _fields(owner: str, *, principal: str, display_name: str, expire: datetime | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"principal": full_name(owner, "principals", principal), "display_name": display_name}
    if expire is not None:
        fields["expire_time"] = expire.astimezone()
    return fields


def _say(key: pb.ApiKey, output: str) -> None:
    """The key alone on standard output, so that a script can keep it."""
    if output == "json":
        print_json(as_json(key))
        return
    click.echo(f"{key.name} created; the key is shown this once:", err=True)
    click.echo(key.key_string)


add_create(
    keys, KIND, "Create an API key and print it. Only its hash is kept: it cannot be shown again.",
    "keys create ada-laptop --principal ada > ada.key",
    (
        click.option("--principal", required=True, help="Whose key."),
        click.option("--display-name", default="", help="A name for people."),
        click.option("--expire", type=click.DateTime(), default=None, help="Until when, in this machine's time."),
    ),
    _fields, _say,
)  # fmt: skip
add_looking(keys, KIND, "ada-laptop")
