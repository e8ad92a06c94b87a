"""`decisions`: decision graphs in GoRules' format."""

from __future__ import annotations

from pathlib import Path

import click
from tiation.engine.v1 import decision_pb2 as pb
from tiation.engine.v1 import decision_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, pages
from cli.document import read_text
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
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
    """Create the decision that FILE holds, or a new version of it.

    \b
    Example:
      tiation decisions push routing.json
    """  # noqa: D301 -- \b is click's
    owner, decision_id = split_name(tenant, "decisions", name or file.stem)
    wanted = pb.Decision(name=full_name(owner, "decisions", decision_id), graph=read_text(file))
    creation = pb.CreateDecisionRequest(parent=f"tenants/{owner}", decision_id=decision_id, decision=wanted)
    with connect(home, decision_pb2_grpc.DecisionServiceStub, owner) as stub:
        found, what = bring(
            wanted,
            ["graph"],
            get=lambda: stub.GetDecision(pb.GetDecisionRequest(name=wanted.name), timeout=TIMEOUT_S),
            create=lambda: stub.CreateDecision(creation, timeout=TIMEOUT_S),
            update=lambda paths: stub.UpdateDecision(
                pb.UpdateDecisionRequest(decision=wanted, update_mask={"paths": paths}), timeout=TIMEOUT_S
            ),
        )
    say_applied(found, what, output)


@decisions.command("list")
@tenant_option
@home_option
@output_option
def list_decisions(home: Home, tenant: str, output: str) -> None:
    """List the decisions.

    \b
    Example:
      tiation decisions list
    """  # noqa: D301 -- \b is click's
    request = pb.ListDecisionsRequest(parent=f"tenants/{tenant}")
    with connect(home, decision_pb2_grpc.DecisionServiceStub, tenant) as stub:
        found = list(pages(stub.ListDecisions, request, "decisions"))
    if output == "json":
        print_json([as_json(decision) for decision in found])
        return
    print_table(("decision", "version"), [(decision.name, decision.version) for decision in found])
