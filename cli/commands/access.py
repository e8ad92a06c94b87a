"""`access`: may somebody do something, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import click
from tiation.security.v1 import access_pb2 as pb
from tiation.security.v1 import access_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.home import Home
from cli.options import full_name, home_option, output_option, tenant_option
from cli.output import as_json, print_json

__all__ = ["access"]


@click.group()
def access() -> None:
    """Ask who may do what, and why."""


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Take PRINCIPAL, PERMISSION and RESOURCE, which may be short (`agents/triage`); pass them on as `query`."""

    @wraps(command)
    def ask(principal: str, permission: str, resource: str, home: Home, tenant: str, output: str) -> None:
        place = resource if not resource or resource.startswith("tenants") else f"tenants/{tenant}/{resource}"
        who = full_name(tenant, "principals", principal)
        command(pb.AccessQuery(principal=who, permission=permission, resource=place), home, tenant, output)

    taken: Callable[..., None] = ask
    asked = (click.argument("principal"), click.argument("permission"), click.argument("resource", default=""))
    for option in (output_option, home_option, tenant_option, *reversed(asked)):
        taken = option(taken)
    return taken


@access.command()
@_asking
def explain(query: pb.AccessQuery, home: Home, tenant: str, output: str) -> None:
    """Say whether PRINCIPAL has PERMISSION on RESOURCE, by what, or what comes nearest.

    Without RESOURCE it is the tenant as a whole.

    \b
    Example:
      tiation access explain ada orchestrator.runs.create agents/support-triage
    """  # noqa: D301 -- \b is click's
    with connect(home, access_pb2_grpc.AccessServiceStub, tenant) as stub:
        request = pb.ExplainAccessRequest(parent=f"tenants/{tenant}", query=query)
        found = stub.ExplainAccess(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(found))
        return
    click.echo(found.reason if found.HasField("rule") else f"not allowed: {found.reason}")
    for rule in found.near_misses:
        by = f" through {' in '.join(rule.group_path)}" if rule.group_path else ""
        click.echo(f"  {rule.binding}: {rule.role} on {rule.resource}{by}, {rule.lacks}")
    click.echo(f"by revision {found.policy_revision} of the policy")


@access.command()
@_asking
def check(query: pb.AccessQuery, home: Home, tenant: str, output: str) -> None:
    """Say whether PRINCIPAL has PERMISSION on RESOURCE; exits 1 when it does not.

    Without RESOURCE it is the tenant as a whole.

    \b
    Example:
      tiation access check ada orchestrator.runs.create agents/support-triage
    """  # noqa: D301 -- \b is click's
    with connect(home, access_pb2_grpc.AccessServiceStub, tenant) as stub:
        found = stub.CheckAccess(pb.CheckAccessRequest(parent=f"tenants/{tenant}", query=query), timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(found))
    else:
        click.echo("allowed" if found.allowed else "not allowed")
    if not found.allowed:
        raise click.exceptions.Exit(1)
