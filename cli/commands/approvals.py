"""`approvals`: what runs ask of people."""

from __future__ import annotations

import json
import re

import click
from tiation.orchestrator.v1 import approval_pb2, approval_pb2_grpc

from cli.client import TIMEOUT_S, connect, pages, parse
from cli.document import json_option
from cli.home import Home
from cli.options import full_name, home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from mesh.json_value import value_to_json

__all__ = ["approvals"]

_RUN = re.compile(r"(?:tenants/(?P<tenant>[^/]+)/agents/)?(?P<agent>[^/]+)/(?:runs/)?(?P<run>[^/]+)")


@click.group()
def approvals() -> None:
    """See what runs ask of people, and answer."""


@approvals.command("list")
@click.option("--run", "asking", default="", metavar="RUN", help="Only what this run asks: AGENT/ID, or its full name.")
@click.option("--all", "show_all", is_flag=True, help="Those too that wait for no answer any more.")
@tenant_option
@home_option
@output_option
def list_approvals(home: Home, tenant: str, asking: str, *, show_all: bool, output: str) -> None:
    """List what waits for an answer.

    \b
    Example:
      tiation approvals list
    """  # noqa: D301 -- \b is click's
    run = _run(tenant, asking) if asking else ""
    request = approval_pb2.ListApprovalsRequest(parent=f"tenants/{tenant}", run=run or "", show_all=show_all)
    if asking and not run:
        raise click.UsageError(f"`{asking}` names no run; write AGENT/ID, or its full name")
    with connect(home, approval_pb2_grpc.ApprovalServiceStub, tenant) as stub:
        found = list(pages(stub.ListApprovals, request, "approvals"))
    if output == "json":
        print_json([as_json(approval) for approval in found])
        return
    rows = [
        (
            approval.name.rsplit("/", 1)[-1],
            approval.title,
            approval_pb2.Approval.State.Name(approval.state),
            approval.run,
            approval.expire_time.ToJsonString()[:19] if approval.HasField("expire_time") else "-",
        )
        for approval in found
    ]
    print_table(("approval", "title", "state", "run", "until"), rows)


@approvals.command()
@click.argument("approval")
@tenant_option
@home_option
@output_option
def get(approval: str, home: Home, tenant: str, output: str) -> None:
    """Show what is asked.

    \b
    Example:
      tiation approvals get 3f1c0a9b7d2e4f5a6b7c
    """  # noqa: D301 -- \b is click's
    name = full_name(tenant, "approvals", approval)
    with connect(home, approval_pb2_grpc.ApprovalServiceStub, name.split("/")[1]) as stub:
        found = stub.GetApproval(approval_pb2.GetApprovalRequest(name=name), timeout=TIMEOUT_S)
    data = json.dumps(value_to_json(found.data, "result"), indent=2, ensure_ascii=False)
    lines = [f"{found.name}  {approval_pb2.Approval.State.Name(found.state)}", f"run: {found.run}", found.title]
    lines += [line for line in (found.description, data if data != "null" else "") if line]
    lines.append(f"answers: {', '.join(found.options)}")
    if found.HasField("answer"):
        said = f"{found.answer.outcome} by {found.answer.principal}"
        lines.append(f"answered: {said}" + (f": {found.answer.comment}" if found.answer.comment else ""))
    print_one(found, output, "\n".join(lines))


@approvals.command()
@click.argument("run_or_approval", metavar="RUN|APPROVAL")
@click.option("--approve", is_flag=True, help="Answer `approve`.")
@click.option("--reject", is_flag=True, help="Answer `reject`.")
@click.option("--outcome", "other", default="", metavar="TEXT", help="Answer something else that the question allows.")
@click.option("--comment", default="", help="What to say about it.")
@click.option("--data", "given", default="", metavar="JSON", help="What to send along; @FILE reads a file.")
@tenant_option
@home_option
@output_option
def answer(
    run_or_approval: str,
    other: str,
    comment: str,
    given: str,
    home: Home,
    tenant: str,
    output: str,
    *,
    approve: bool,
    reject: bool,
) -> None:
    """Answer an approval, or the only one that a run waits for.

    \b
    Example:
      tiation approvals answer 3f1c0a9b7d2e4f5a6b7c --approve --comment "checked"
      tiation approvals answer support-triage/20260101-120000-1a2b3c4d5e --reject
    """  # noqa: D301 -- \b is click's
    outcomes = ["approve"] * approve + ["reject"] * reject + [other] * bool(other)
    if len(outcomes) != 1:
        raise click.UsageError("give one of --approve, --reject and --outcome")
    run = _run(tenant, run_or_approval)
    name = "" if run else full_name(tenant, "approvals", run_or_approval)
    request = approval_pb2.SubmitInputRequest(outcome=outcomes[0], comment=comment)
    if given:
        parse(json_option(given, "--data"), request.data, "--data")
    with connect(home, approval_pb2_grpc.ApprovalServiceStub, (run or name).split("/")[1]) as stub:
        if name:
            found = stub.GetApproval(approval_pb2.GetApprovalRequest(name=name), timeout=TIMEOUT_S)
            run, request.approval = found.run, found.name.rsplit("/", 1)[-1]
        request.name = run
        answered = stub.SubmitInput(request, timeout=TIMEOUT_S)
    print_one(answered, output, f"{answered.name} answered: {answered.answer.outcome}")


def _run(tenant: str, text: str) -> str:
    """A run's full name; empty where the text names none."""
    match = _RUN.fullmatch(text)
    if match is None or (match["tenant"] is None and match["agent"] == "tenants"):
        return ""
    return f"tenants/{match['tenant'] or tenant}/agents/{match['agent']}/runs/{match['run']}"
