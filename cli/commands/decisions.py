"""`decisions`: decision graphs in GoRules' format."""

from __future__ import annotations

from pathlib import Path

import click
from tiation.engine.v1 import decision_pb2 as pb
from tiation.engine.v1 import decision_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, parse
from cli.document import json_option, read_text
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json
from cli.resources import Kind, add_looking

__all__ = ["decisions"]


KIND = Kind(
    pb, decision_pb2_grpc.DecisionServiceStub, "Decision", "decision", "decisions", "decisions",
    ("decision", "version"), lambda decision: (decision.name, decision.version),
)  # fmt: skip


@click.group()
def decisions() -> None:
    """Bring decisions, and ask them."""


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
    owner, decision_id, full = KIND.split(tenant, name or file.stem)
    wanted = pb.Decision(name=full, graph=read_text(file))
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


@decisions.command()
@click.argument("decision")
@click.option("--input", "given", required=True, metavar="JSON", help="The facts; @FILE reads a file.")
@click.option("--version", type=click.IntRange(0), default=0, help="Which version.  [default: the newest]")
@click.option("--trace", is_flag=True, help="Say what every node of the graph did, too.")
@tenant_option
@home_option
@output_option
def decide(decision: str, given: str, version: int, home: Home, tenant: str, *, trace: bool, output: str) -> None:
    """Ask a DECISION, and print what it answers, which is JSON; with --output json also which version answered.

    \b
    Example:
      tiation decisions decide support-routing --input '{"intent": "billing", "score": 0.9, "tier": "free"}'
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, decision)
    request = pb.DecideRequest(name=name, version=version, trace=trace)
    parse(json_option(given, "--input"), request.input, "--input")
    with KIND.connect(home, owner) as stub:
        answer = as_json(stub.Decide(request, timeout=TIMEOUT_S))
    print_json(answer if output == "json" or trace else answer["result"])


add_looking(decisions, KIND, "support-routing")
