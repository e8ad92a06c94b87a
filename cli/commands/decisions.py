"""`decisions`: decision graphs in GoRules' format."""

from __future__ import annotations

from pathlib import Path

import click
import grpc
from tiation.engine.v1 import decision_pb2 as pb
from tiation.engine.v1 import decision_pb2_grpc

from cli.apply import say_applied
from cli.client import TIMEOUT_S, connect, pages
from cli.home import Home
from cli.options import full_name, home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_table

__all__ = ["decisions"]


@click.group()
def decisions() -> None:
    """Bring decisions."""


@decisions.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="The decision's id.  [default: the file's name]")
@tenant_option
@home_option
@output_option
def push(file: Path, name: str, home: Home, tenant: str, output: str) -> None:
    """Create the decision that FILE holds, or a new version of it. Example: tiation decisions push routing.json"""
    decision_id = name or file.stem
    wanted = pb.Decision(name=full_name(tenant, "decisions", decision_id), graph=file.read_text())
    with connect(home, decision_pb2_grpc.DecisionServiceStub) as stub:
        try:
            current = stub.GetDecision(pb.GetDecisionRequest(name=wanted.name), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            request = pb.CreateDecisionRequest(parent=f"tenants/{tenant}", decision_id=decision_id, decision=wanted)
            say_applied(stub.CreateDecision(request, timeout=TIMEOUT_S), "created", output)
            return
        if current.graph == wanted.graph:
            say_applied(current, "unchanged", output)
            return
        wanted.etag = current.etag
        update = pb.UpdateDecisionRequest(decision=wanted, update_mask={"paths": ["graph"]})
        say_applied(stub.UpdateDecision(update, timeout=TIMEOUT_S), "changed", output)


@decisions.command("list")
@tenant_option
@home_option
@output_option
def list_decisions(home: Home, tenant: str, output: str) -> None:
    """List the decisions. Example: tiation decisions list"""
    request = pb.ListDecisionsRequest(parent=f"tenants/{tenant}")
    with connect(home, decision_pb2_grpc.DecisionServiceStub) as stub:
        found = list(pages(stub.ListDecisions, request, "decisions"))
    if output == "json":
        print_json([as_json(decision) for decision in found])
        return
    print_table(("decision", "version"), [(decision.name, decision.version) for decision in found])
