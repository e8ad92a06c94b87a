"""`keys`: API keys, which programs exchange for tokens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
from tiation.security.v1 import api_key_pb2 as pb
from tiation.security.v1 import api_key_pb2_grpc

from cli.apply import say_applied
from cli.home import Home
from cli.options import full_name, home_option, output_option, tenant_option
from cli.output import as_json, print_json
from cli.resources import Kind, add_looking
from cli.secret_file import new_secret_file

__all__ = ["keys"]


def _row(key: pb.ApiKey) -> tuple[object, ...]:
    until = key.expire_time.ToJsonString() if key.HasField("expire_time") else ""
    return key.name, key.principal, key.display_name, until


KIND = Kind(
    pb, api_key_pb2_grpc.ApiKeyServiceStub, "ApiKey", "api_key", "apiKeys", "keys",
    ("key", "principal", "called", "until"), _row,
)  # fmt: skip


@click.group()
def keys() -> None:
    """Look after API keys."""


@keys.command()
@click.argument("name")
@click.option("--principal", required=True, help="Whose key.")
@click.option("--display-name", default="", help="A name for people.")
@click.option("--expire", type=click.DateTime(), default=None, help="Until when, in this machine's time.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE",
    help="Write the key to this new file, for its owner alone, instead of printing it.",
)  # fmt: skip
@tenant_option
@home_option
@output_option
def create(name: str, principal: str, home: Home, tenant: str, output: str, out: Path | None, **given: Any) -> None:  # noqa: ANN401 -- fields of the key
    """Create an API key. Only its hash is kept: it cannot be shown again.

    A file that is there is never overwritten, and nothing is created then.

    \b
    Example:
      tiation keys create ada-laptop --principal ada --out ada.key
    """  # noqa: D301 -- \b is click's
    owner, key_id, _ = KIND.split(tenant, name)
    wanted = pb.ApiKey(principal=full_name(owner, "principals", principal), display_name=given["display_name"])
    if given["expire"] is not None:
        wanted.expire_time.FromDatetime(given["expire"].astimezone())
    place: AbstractContextManager[Callable[[str], object] | None] = new_secret_file(out) if out else nullcontext()
    with place as write, KIND.connect(home, owner) as stub:
        made = KIND.call(stub, "Create", **KIND.creation(owner, key_id, wanted))
        if write is not None:
            write(f"{made.key_string}\n")
    if out is None:
        _say(made, output)
    else:
        made.ClearField("key_string")
        say_applied(made, f"created; the key is in {out}", output)


def _say(key: pb.ApiKey, output: str) -> None:
    """The key alone on standard output, so that a script can keep it."""
    if output == "json":
        print_json(as_json(key))
        return
    click.echo(f"{key.name} created; the key is shown this once:", err=True)
    click.echo(key.key_string)


add_looking(keys, KIND, "ada-laptop")
