"""`agents` and `run`: agents and their work."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import click
import grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, pages, persist
from cli.document import open_document, read_text
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from mesh.json_value import fault_of_json, json_to_value

__all__ = ["agents", "run"]


@click.group()
def agents() -> None:
    """Bring agents and look after them."""


@agents.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@tenant_option
@home_option
@output_option
def apply(file: Path, home: Home, tenant: str, output: str) -> None:
    """Create the agent whose flow FILE holds, or update it to that.

    \b
    Example:
      tiation agents apply agent.yaml
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", open_document(file).id_at("document", "name", what="agent"))
    wanted = agent_pb2.Agent(name=full_name(owner, "agents", agent_id), flow=read_text(file))
    creation = agent_pb2.CreateAgentRequest(parent=f"tenants/{owner}", agent_id=agent_id, agent=wanted)
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found, what = bring(
            wanted,
            ["flow"],
            get=lambda: stub.GetAgent(agent_pb2.GetAgentRequest(name=wanted.name), timeout=TIMEOUT_S),
            create=lambda: stub.CreateAgent(creation, timeout=TIMEOUT_S),
            update=lambda paths: stub.UpdateAgent(
                agent_pb2.UpdateAgentRequest(agent=wanted, update_mask={"paths": paths}), timeout=TIMEOUT_S
            ),
        )
    say_applied(found, what, output)


@agents.command("list")
@tenant_option
@home_option
@output_option
def list_agents(home: Home, tenant: str, output: str) -> None:
    """List the agents.

    \b
    Example:
      tiation agents list
    """  # noqa: D301 -- \b is click's
    with connect(home, agent_pb2_grpc.AgentServiceStub, tenant) as stub:
        found = list(pages(stub.ListAgents, agent_pb2.ListAgentsRequest(parent=f"tenants/{tenant}"), "agents"))
    if output == "json":
        print_json([as_json(agent) for agent in found])
        return
    rows = [
        (agent.name, agent_pb2.Agent.State.Name(agent.state), agent.current_revision.rsplit("/", 1)[-1])
        for agent in found
    ]
    print_table(("agent", "state", "revision"), rows)


@agents.command()
@click.argument("agent")
@tenant_option
@home_option
@output_option
def get(agent: str, home: Home, tenant: str, output: str) -> None:
    """Show one agent.

    \b
    Example:
      tiation agents get support-triage
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    request = agent_pb2.GetAgentRequest(name=full_name(owner, "agents", agent_id))
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found = stub.GetAgent(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name}  {agent_pb2.Agent.State.Name(found.state)}\n\n{found.flow}")


@agents.command()
@click.argument("agent")
@tenant_option
@home_option
@output_option
def delete(agent: str, home: Home, tenant: str, output: str) -> None:
    """Delete one agent.

    \b
    Example:
      tiation agents delete support-triage
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    name = full_name(owner, "agents", agent_id)
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        stub.DeleteAgent(agent_pb2.DeleteAgentRequest(name=name), timeout=TIMEOUT_S)
    click.echo(json.dumps({"deleted": name}) if output == "json" else f"{name} deleted")


@click.command()
@click.argument("agent")
@click.option("--input", "given", default="null", metavar="JSON", help="What the run begins with; @FILE reads a file.")
@click.option("--follow", is_flag=True, help="Show its events and wait for its end; exits 1 unless it succeeds.")
@tenant_option
@home_option
@output_option
def run(agent: str, given: str, home: Home, tenant: str, *, follow: bool, output: str) -> None:
    """Let an agent work.

    \b
    Example:
      tiation run support-triage --follow \\
        --input '{"id": "1", "message": "Refund me", "tier": "free"}'
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    wanted = run_pb2.Run(input=json_to_value(_json(given), "--input"))
    request = run_pb2.CreateRunRequest(
        parent=full_name(owner, "agents", agent_id), run=wanted, request_id=str(uuid.uuid4())
    )
    with connect(home, run_pb2_grpc.RunServiceStub, owner) as stub:
        made = persist(lambda: stub.CreateRun(request, timeout=TIMEOUT_S))
        if follow:
            made = _follow(stub, made, output)
    if output == "json":
        print_json(as_json(made))
    elif not follow:
        click.echo(made.name)
    if follow and made.state != run_pb2.Run.SUCCEEDED:
        raise click.exceptions.Exit(1)


def _json(text: str) -> Any:  # noqa: ANN401 -- any JSON
    if text.startswith("@"):
        text = read_text(Path(text[1:]))
    try:
        value = json.loads(text)
    except RecursionError:
        raise click.UsageError("--input is nested too deeply") from None
    except ValueError as error:
        raise click.UsageError(f"--input is no JSON: {error}") from None
    if fault := fault_of_json(value, exact=True):
        raise click.UsageError(f"--input {fault}")
    return value


def _follow(stub: Any, made: run_pb2.Run, output: str) -> run_pb2.Run:  # noqa: ANN401 -- see `connect`
    """Print events until the run has ended, resuming where the stream breaks; returns the run as it is then."""
    seen, failures = 0, 0
    while True:
        try:
            request = run_pb2.StreamRunEventsRequest(name=made.name, after_sequence=seen)
            for answer in stub.StreamRunEvents(request):
                if answer.HasField("event"):
                    seen, failures = answer.event.sequence, 0
                    if output == "table":
                        click.echo(_line(answer.event))
            found = stub.GetRun(run_pb2.GetRunRequest(name=made.name), timeout=TIMEOUT_S)
            if found.HasField("end_time"):
                ended: run_pb2.Run = found
                return ended
        except grpc.RpcError as error:
            failures += 1
            if error.code() is not grpc.StatusCode.UNAVAILABLE or failures > 30:
                raise


def _line(event: run_pb2.RunEvent) -> str:
    parts = [f"{event.sequence:4}", run_pb2.RunEvent.Type.Name(event.type).lower().replace("_", " "), event.step]
    if event.HasField("error"):
        parts.append(f"{event.error.title}: {event.error.detail}")
    elif event.HasField("result"):
        parts.append(json.dumps(as_json(event.result), ensure_ascii=False)[:200])
    return "  ".join(part for part in parts if part)
