"""`agents` and `run`: agents and their work."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import click
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, pages, persist
from cli.document import json_option, open_document, read_text
from cli.follow import follow_to_end
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from mesh.json_value import json_to_value

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
        (
            agent.name,
            agent_pb2.Agent.State.Name(agent.state),
            agent.current_revision.rsplit("/", 1)[-1],
            " ".join(f"{target.revision}={target.percent}" for target in agent.traffic) or "newest",
        )
        for agent in found
    ]
    print_table(("agent", "state", "revision", "traffic"), rows)


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


@agents.command()
@click.argument("agent")
@click.argument("shares", nargs=-1, metavar="[REV=PERCENT]...")
@tenant_option
@home_option
@output_option
def traffic(agent: str, shares: tuple[str, ...], home: Home, tenant: str, output: str) -> None:
    """Spread an agent's new runs over revisions; with no shares all go to the newest, now and after every change.

    \b
    Example:
      tiation agents traffic support-triage r1=90 r2=10
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    request = agent_pb2.SetTrafficRequest(name=full_name(owner, "agents", agent_id))
    for share in shares:
        revision, _, percent = share.partition("=")
        if not percent.isdecimal():
            raise click.UsageError(f"`{share}` is no share; write it like r1=90")
        request.traffic.add(revision=revision, percent=int(percent))
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found = stub.SetTraffic(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name} {_shares(found)}")


@agents.command()
@click.argument("agent")
@click.option("--to", "revision", default="", metavar="REV", help="The revision.  [default: the one before]")
@tenant_option
@home_option
@output_option
def rollback(agent: str, revision: str, home: Home, tenant: str, output: str) -> None:
    """Send all of an agent's new runs to an earlier revision.

    \b
    Example:
      tiation agents rollback support-triage --to r1
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    request = agent_pb2.RollbackAgentRequest(name=full_name(owner, "agents", agent_id))
    request.revision = f"{request.name}/revisions/{revision}" if revision else ""
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found = stub.RollbackAgent(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name} {_shares(found)}")


@agents.command()
@click.argument("agent")
@click.option("--priority", type=click.IntRange(0, 9), help="Of runs that name none.")
@click.option("--max-priority", type=click.IntRange(0, 9), help="The highest that a run may name.")
@click.option("--max-concurrency", type=click.IntRange(0), help="The most runs at once; 0 for no limit.")
@click.option("--max-queued", type=click.IntRange(0), help="The most runs that wait; 0 for no limit.")
@tenant_option
@home_option
@output_option
def queue(agent: str, home: Home, tenant: str, output: str, **given: int | None) -> None:
    """Say how an agent's runs wait for their turn; what is not given stays as it is.

    \b
    Example:
      tiation agents queue support-triage --max-concurrency 4 --max-queued 1000
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    name = full_name(owner, "agents", agent_id)
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found = stub.GetAgent(agent_pb2.GetAgentRequest(name=name), timeout=TIMEOUT_S)
        if wanted := {field: value for field, value in given.items() if value is not None}:
            found.queue.MergeFrom(agent_pb2.Queue(**wanted))
            for field in (field for field, value in wanted.items() if not value):
                found.queue.ClearField(field)
            request = agent_pb2.UpdateAgentRequest(agent=found, update_mask={"paths": ["queue"]})
            found = stub.UpdateAgent(request, timeout=TIMEOUT_S)
    limits = [f"{field.name} {getattr(found.queue, field.name)}" for field in agent_pb2.Queue.DESCRIPTOR.fields]
    print_one(found, output, f"{found.name} {', '.join(limits)}")


@agents.command()
@click.argument("agent")
@tenant_option
@home_option
@output_option
def pause(agent: str, home: Home, tenant: str, output: str) -> None:
    """Hold an agent's new runs back: they are taken and wait.

    \b
    Example:
      tiation agents pause support-triage
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    request = agent_pb2.PauseAgentRequest(name=full_name(owner, "agents", agent_id))
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found = stub.PauseAgent(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name} {agent_pb2.Agent.State.Name(found.state)}")


@agents.command()
@click.argument("agent")
@tenant_option
@home_option
@output_option
def resume(agent: str, home: Home, tenant: str, output: str) -> None:
    """Let a paused agent's runs begin again.

    \b
    Example:
      tiation agents resume support-triage
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    request = agent_pb2.ResumeAgentRequest(name=full_name(owner, "agents", agent_id))
    with connect(home, agent_pb2_grpc.AgentServiceStub, owner) as stub:
        found = stub.ResumeAgent(request, timeout=TIMEOUT_S)
    print_one(found, output, f"{found.name} {agent_pb2.Agent.State.Name(found.state)}")


def _shares(agent: agent_pb2.Agent) -> str:
    """Which revisions new runs get, for people."""
    shares = [f"{target.revision}={target.percent}" for target in agent.traffic]
    return " ".join(shares) or f"{agent.current_revision.rsplit('/', 1)[-1]}=100, and the newest from then on"


@click.command()
@click.argument("agent")
@click.option("--input", "given", default="null", metavar="JSON", help="What the run begins with; @FILE reads a file.")
@click.option(
    "--id", "run_id", default="", help="The run's id; the same again shows the same run.  [default: a new one]"
)
@click.option("--priority", type=click.IntRange(0, 9), help="Who goes first while runs wait.  [default: the agent's]")
@click.option("--follow", is_flag=True, help="Show its events and wait for its end; exits 1 unless it succeeds.")
@tenant_option
@home_option
@output_option
def run(
    agent: str, given: str, run_id: str, priority: int | None, home: Home, tenant: str, *, follow: bool, output: str
) -> None:
    """Let an agent work.

    \b
    Example:
      tiation run support-triage --follow \\
        --input '{"id": "1", "message": "Refund me", "tier": "free"}'
    """  # noqa: D301 -- \b is click's
    owner, agent_id = split_name(tenant, "agents", agent)
    wanted = run_pb2.Run(input=json_to_value(json_option(given, "--input"), "--input"))
    if priority is not None:
        wanted.priority = priority
    request = run_pb2.CreateRunRequest(
        parent=full_name(owner, "agents", agent_id), run=wanted, run_id=run_id, request_id=str(uuid.uuid4())
    )
    with connect(home, run_pb2_grpc.RunServiceStub, owner) as stub:
        made = persist(lambda: stub.CreateRun(request, timeout=TIMEOUT_S))
        if output == "table":
            click.echo(made.name)
        if follow:
            follow_to_end(stub, made, output)
        elif output == "json":
            print_json(as_json(made))
