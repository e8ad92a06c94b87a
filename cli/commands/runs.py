"""`runs`: what agents have done and are doing, and what failed tried again."""

from __future__ import annotations

import json

import click
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

from cli.client import TIMEOUT_S, connect, pages, parse
from cli.document import json_option
from cli.follow import follow_to_end
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from mesh.json_value import value_to_json

__all__ = ["runs"]

_LONGEST = 80
"""Characters of an error in a table."""
_STATES = [name for name in run_pb2.Run.State.keys() if name != "STATE_UNSPECIFIED"]  # noqa: SIM118 -- no mapping


@click.group()
def runs() -> None:
    """Look after runs. A RUN is AGENT/ID, or its full name."""


@runs.command("list")
@click.argument("agent", required=False)
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only runs in this state.")
@click.option("--filter", "condition", default="", help="Only runs for which this holds (AIP-160).")
@click.option("--order-by", default="create_time desc", show_default=True, help="The order of each agent's runs.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many an agent.")
@tenant_option
@home_option
@output_option
def list_runs(
    agent: str | None,
    state: str | None,
    condition: str,
    order_by: str,
    limit: int,
    home: Home,
    tenant: str,
    output: str,
) -> None:
    """List the runs of AGENT, or of all agents.

    \b
    Example:
      tiation runs list --state DEAD_LETTERED
      tiation runs list support-triage --filter 'labels.team = "one" AND create_time > "2026-01-01T00:00:00Z"'
    """  # noqa: D301 -- \b is click's
    terms = [f"state = {state.upper()}"] if state else []
    terms += [f"({condition})"] if condition.strip() else []
    found: list[run_pb2.Run] = []
    with connect(home, run_pb2_grpc.RunServiceStub, tenant) as stub:
        for parent in [full_name(tenant, "agents", agent)] if agent else _agents(home, tenant):
            request = run_pb2.ListRunsRequest(
                parent=parent, filter=" AND ".join(terms), order_by=order_by, page_size=limit
            )
            found += stub.ListRuns(request, timeout=TIMEOUT_S).runs
    if output == "json":
        print_json([as_json(run) for run in found])
        return
    rows = [
        (_short(run.name), _state(run), run.steps, run.create_time.ToJsonString()[:19], _said(run)) for run in found
    ]
    print_table(("run", "state", "steps", "created", "error"), rows)


def _agents(home: Home, tenant: str) -> list[str]:
    request = agent_pb2.ListAgentsRequest(parent=f"tenants/{tenant}")
    with connect(home, agent_pb2_grpc.AgentServiceStub, tenant) as stub:
        return [agent.name for agent in pages(stub.ListAgents, request, "agents")]


@runs.command()
@click.argument("run")
@tenant_option
@home_option
@output_option
def get(run: str, home: Home, tenant: str, output: str) -> None:
    """Show one run.

    \b
    Example:
      tiation runs get support-triage/20260101-120000-0123456789
    """  # noqa: D301 -- \b is click's
    request = run_pb2.GetRunRequest(name=_name(tenant, run))
    with connect(home, run_pb2_grpc.RunServiceStub, tenant) as stub:
        found = stub.GetRun(request, timeout=TIMEOUT_S)
    line = f"{found.name}  {_state(found)}, {found.steps} steps, attempt {found.attempt}"
    if found.HasField("error"):
        line += f"\n\n{found.error.instance or '/'}: {found.error.title}: {found.error.detail}"
    if found.HasField("output"):
        line += f"\n\n{json.dumps(value_to_json(found.output, 'output'), indent=2, ensure_ascii=False)}"
    print_one(found, output, line)


@runs.command()
@click.argument("run")
@tenant_option
@home_option
@output_option
def follow(run: str, home: Home, tenant: str, output: str) -> None:
    """Draw a run's steps as they go on, from its first one to its end; exits 1 unless it succeeds.

    \b
    Example:
      tiation runs follow support-triage/20260101-120000-0123456789
    """  # noqa: D301 -- \b is click's
    request = run_pb2.GetRunRequest(name=_name(tenant, run))
    with connect(home, run_pb2_grpc.RunServiceStub, tenant) as stub:
        follow_to_end(stub, stub.GetRun(request, timeout=TIMEOUT_S), output)


@runs.command()
@click.argument("run")
@tenant_option
@home_option
@output_option
def cancel(run: str, home: Home, tenant: str, output: str) -> None:
    """Ask a run to end.

    \b
    Example:
      tiation runs cancel support-triage/20260101-120000-0123456789
    """  # noqa: D301 -- \b is click's
    request = run_pb2.CancelRunRequest(name=_name(tenant, run))
    with connect(home, run_pb2_grpc.RunServiceStub, tenant) as stub:
        found = stub.CancelRun(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name} {_state(found)}")


@runs.command()
@click.argument("run")
@click.option("--after", "after_sequence", type=click.IntRange(0), default=0, help="The last event to copy.")
@click.option("--step", default="", metavar="POINTER", help="The first step to do again, as in /do/2/store.")
@click.option("--revision", default="", help="Another revision of the agent, as in r3.")
@click.option("--input", "given", metavar="JSON", help="Another input, or @FILE; only where no step is copied.")
@tenant_option
@home_option
@output_option
def fork(
    run: str, after_sequence: int, step: str, revision: str, given: str | None, home: Home, tenant: str, output: str
) -> None:
    """Start a new run that begins with what RUN did, up to an event or a step; with neither, from the start.

    \b
    Example:
      tiation runs fork support-triage/20260101-120000-0123456789 --step /do/1/route
    """  # noqa: D301 -- \b is click's
    name = _name(tenant, run)
    request = run_pb2.ForkRunRequest(name=name, after_sequence=after_sequence, step=step)
    if revision:
        request.revision = f"{name.rsplit('/runs/', 1)[0]}/revisions/{revision}"
    if given is not None:
        parse(json_option(given, "--input"), request.input, "--input")
    with connect(home, run_pb2_grpc.RunServiceStub, tenant) as stub:
        made = stub.ForkRun(request, timeout=TIMEOUT_S)
    print_one(made, output, f"{made.name} forked after event {made.source_sequence}")


@runs.command()
@click.argument("run")
@tenant_option
@home_option
@output_option
def redrive(run: str, home: Home, tenant: str, output: str) -> None:
    """Try a run that is FAILED or DEAD_LETTERED again, from the step that failed.

    \b
    Example:
      tiation runs redrive support-triage/20260101-120000-0123456789
    """  # noqa: D301 -- \b is click's
    request = run_pb2.RedriveRunRequest(name=_name(tenant, run))
    with connect(home, run_pb2_grpc.RunServiceStub, tenant) as stub:
        found = stub.RedriveRun(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name} {_state(found)}, attempt {found.attempt}")


def _name(tenant: str, run: str) -> str:
    """A run's full name."""
    if run.startswith("tenants/"):
        return run
    agent, _, run_id = run.partition("/")
    if not run_id or "/" in run_id:
        raise click.UsageError(f"`{run}` names no run; write AGENT/ID, or the full name")
    owner, agent_id = split_name(tenant, "agents", agent)
    return f"{full_name(owner, 'agents', agent_id)}/runs/{run_id}"


def _said(run: run_pb2.Run) -> str:
    """Why it failed, on one line."""
    if not run.HasField("error"):
        return "-"
    text = " ".join(f"{run.error.title}: {run.error.detail}".split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _short(name: str) -> str:
    parts = name.split("/")
    return f"{parts[3]}/{parts[5]}"


def _state(run: run_pb2.Run) -> str:
    return run_pb2.Run.State.Name(run.state)
