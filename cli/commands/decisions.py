"""`decisions`: decision graphs in GoRules' format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from tiation.engine.v1 import decision_pb2 as pb
from tiation.engine.v1 import decision_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, FileError, connect, pages, parse
from cli.document import json_option, open_document, read_text
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_table
from cli.resources import Kind, add_looking

__all__ = ["decisions"]


KIND = Kind(
    pb, decision_pb2_grpc.DecisionServiceStub, "Decision", "decision", "decisions", "decisions",
    ("decision", "version"), lambda decision: (decision.name, decision.version),
)  # fmt: skip


def examples_option(text: str) -> Callable[[Any], Any]:
    """`--examples FILE`."""
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option("--examples", type=kind, help=f"YAML or JSON with `examples`. {text}")


@click.group()
def decisions() -> None:
    """Bring decisions, test them, and ask them."""


@decisions.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="The decision's id.  [default: the file's name]")
@examples_option("What it must answer; left out, the examples that it has stay.")
@tenant_option
@home_option
@output_option
def push(file: Path, examples: Path | None, name: str, home: Home, tenant: str, output: str) -> None:
    """Create the decision that FILE holds, or a new version of it; one that answers an example otherwise is refused.

    \b
    Example:
      tiation decisions push routing.json --examples routing.examples.yaml
    """  # noqa: D301 -- \b is click's
    owner, decision_id, full = KIND.split(tenant, name or file.stem)
    wanted = pb.Decision(name=full, graph=read_text(file), examples=_examples(examples))
    creation = pb.CreateDecisionRequest(parent=f"tenants/{owner}", decision_id=decision_id, decision=wanted)
    with connect(home, decision_pb2_grpc.DecisionServiceStub, owner) as stub:
        found, what = bring(
            wanted,
            ["graph", *(["examples"] if examples else [])],
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
@click.option("--alias", default="", help="An alias in place of a version.")
@click.option("--why", is_flag=True, help="Say in words which rules fired, too.")
@click.option("--trace", is_flag=True, help="Say what every node of the graph did, too.")
@tenant_option
@home_option
@output_option
def decide(
    decision: str, given: str, version: int, alias: str, home: Home, tenant: str, *, why: bool, trace: bool, output: str
) -> None:
    """Ask a DECISION, and print what it answers, which is JSON; with --output json also which version answered.

    \b
    Example:
      tiation decisions decide support-routing --input '{"intent": "billing", "score": 0.9, "tier": "free"}'
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, decision)
    request = pb.DecideRequest(name=name, version=version, alias=alias, trace=trace)
    parse(json_option(given, "--input"), request.input, "--input")
    with KIND.connect(home, owner) as stub:
        answer = as_json(stub.Decide(request, timeout=TIMEOUT_S))
    print_json(answer if output == "json" or trace else answer["result"])
    if why and output == "table":
        for step in answer["steps"]:
            click.echo(step["text"])


@decisions.command()
@click.argument("decision")
@click.option("--version", type=click.IntRange(0), default=0, help="Which version.  [default: the newest]")
@click.option(
    "--graph", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with another graph than the version's.",
)  # fmt: skip
@examples_option("Others than the version's.")
@tenant_option
@home_option
@output_option
def test(
    decision: str, version: int, graph: Path | None, examples: Path | None, home: Home, tenant: str, output: str
) -> None:
    """Run the examples of a DECISION; exits with 1 where one is answered otherwise. Changes nothing.

    \b
    Example:
      tiation decisions test support-routing --graph routing.json
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, decision)
    request = pb.TestDecisionRequest(name=name, version=version, examples=_examples(examples))
    request.graph = read_text(graph) if graph else ""
    with KIND.connect(home, owner) as stub:
        report = stub.TestDecision(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(report))
    else:
        rows = [(each.name, "passed" if each.passed else "failed", _said(each)) for each in report.results]
        print_table(("example", "state", "why"), rows)
        for rule in report.unused_rules:
            click.echo(f"no example makes it fire: {rule}")
        click.echo(f"\n{report.passed_count} passed, {report.failed_count} failed, version {report.version}")
    if report.failed_count:
        raise click.exceptions.Exit(1)


@decisions.command()
@click.argument("decision")
@tenant_option
@home_option
@output_option
def versions(decision: str, home: Home, tenant: str, output: str) -> None:
    """List the versions of a DECISION, newest first.

    \b
    Example:
      tiation decisions versions support-routing
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, decision)
    request = pb.ListDecisionVersionsRequest(parent=name)
    with KIND.connect(home, owner) as stub:
        found = list(pages(stub.ListDecisionVersions, request, "decision_versions"))
    if output == "json":
        print_json([as_json(each) for each in found])
    else:
        print_table(("version", "created"), [(each.version, each.create_time.ToJsonString()) for each in found])


@decisions.command()
@click.argument("decision")
@click.option("--to", "version", type=click.IntRange(1), required=True, help="Which version to bring back.")
@tenant_option
@home_option
@output_option
def rollback(decision: str, version: int, home: Home, tenant: str, output: str) -> None:
    """Bring an earlier version of a DECISION back, graph and examples, as its newest one.

    \b
    Example:
      tiation decisions rollback support-routing --to 1
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, decision)
    with KIND.connect(home, owner) as stub:
        kept = stub.GetDecisionVersion(
            pb.GetDecisionVersionRequest(name=f"{name}/versions/{version}"), timeout=TIMEOUT_S
        )
        wanted = pb.Decision(name=name, graph=kept.graph, examples=kept.examples)
        mask = {"paths": ["graph", "examples"]}
        found = stub.UpdateDecision(pb.UpdateDecisionRequest(decision=wanted, update_mask=mask), timeout=TIMEOUT_S)
    say_applied(found, f"version {found.version}, which is version {version} again", output)


@decisions.command()
@click.argument("decision")
@click.argument("alias")
@click.argument("targets", nargs=-1, metavar="[VERSION[:WEIGHT]]...")
@click.option("--remove", is_flag=True, help="Take the alias away.")
@tenant_option
@home_option
@output_option
def alias(
    decision: str, alias: str, targets: Sequence[str], home: Home, tenant: str, *, remove: bool, output: str
) -> None:
    """Let ALIAS stand for versions of DECISION; with several, each with its weight.

    \b
    Example:
      tiation decisions alias support-routing canary 3:90 4:10
    """  # noqa: D301 -- \b is click's
    if bool(targets) == remove:
        raise click.UsageError("give versions, or --remove")
    owner, _, name = KIND.split(tenant, decision)
    with KIND.connect(home, owner) as stub:
        wanted = stub.GetDecision(pb.GetDecisionRequest(name=name), timeout=TIMEOUT_S)
        wanted.aliases.pop(alias, None)
        for target in targets:
            version, _, weight = target.partition(":")
            if not (version.isdecimal() and (weight or "1").isdecimal()):
                raise click.UsageError(f"`{target}` is no version with its weight; write 3, or 3:90")
            wanted.aliases[alias].weights[int(version)] = int(weight or 1)
        request = pb.UpdateDecisionRequest(decision=wanted, update_mask={"paths": ["aliases"]})
        found = stub.UpdateDecision(request, timeout=TIMEOUT_S)
    say_applied(found, f"alias {alias} {'removed' if remove else 'is ' + ' '.join(targets)}", output)


def _examples(file: Path | None) -> Sequence[pb.DecisionExample]:
    """The examples in a file.

    Raises:
        FileError: it holds none, or something else.
    """
    if file is None:
        return ()
    document = open_document(file)
    if set(document.values) != {"examples"}:
        raise FileError(f"{file}: must hold `examples`, a list, and nothing else", file=file)
    return document.fill(pb.Decision()).examples


def _said(result: pb.ExampleResult) -> str:
    """Why an example failed, or by which rules it passed."""
    return result.error or "; ".join(result.differences) or "; ".join(step.text for step in result.steps)


add_looking(decisions, KIND, "support-routing")
