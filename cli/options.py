"""The options that every command takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.home import Home

__all__ = ["full_name", "home_option", "output_option", "split_name", "tenant_option"]

F = TypeVar("F", bound=Callable[..., Any])


def _to_home(_context: click.Context, _parameter: click.Parameter, value: str) -> Home:
    if not value:
        raise click.BadParameter("is empty; name the folder where the platform keeps its state")
    return Home(Path(value).resolve())


def home_option(command: F) -> F:
    """`--home`: passes a `Home` as `home`."""
    return click.option(
        "--home",
        default=".tiation",
        envvar="TIATION_HOME",
        show_envvar=True,
        show_default=True,
        metavar="DIR",
        callback=_to_home,
        help="Where the platform keeps its state.",
    )(command)


def output_option(command: F) -> F:
    """`--output`: passes `table` or `json` as `output`."""
    return click.option(
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        envvar="TIATION_OUTPUT",
        show_envvar=True,
        show_default=True,
        help="How to print; errors follow it too.",
    )(command)


def tenant_option(command: F) -> F:
    """`--tenant`: passes a tenant's id as `tenant`."""
    return click.option("--tenant", default="default", show_default=True, help="The tenant to act in.")(command)


def full_name(tenant: str, collection: str, name: str) -> str:
    """A resource's full name from a short one: `triage` is `tenants/default/agents/triage`."""
    return name if name.startswith("tenants/") else f"tenants/{tenant}/{collection}/{name}"


def split_name(tenant: str, collection: str, name: str) -> tuple[str, str]:
    """The tenant and the id of a resource from its short or full name.

    Raises:
        click.UsageError: it is the full name of something else.
    """
    parts = full_name(tenant, collection, name).split("/")
    if len(parts) != 4 or parts[2] != collection:
        raise click.UsageError(
            f"`{name}` names none of the {collection}; give an id, or tenants/TENANT/{collection}/ID"
        )
    return parts[1], parts[3]
