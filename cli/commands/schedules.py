"""`schedules`: agents that run by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp
from tiation.orchestrator.v1 import schedule_pb2 as pb
from tiation.orchestrator.v1 import schedule_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, pages, parse
from cli.document import open_document
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table

__all__ = ["schedules"]

_FIELDS = (
    "agent", "cron", "interval", "timezone", "input", "input_time_field", "start_time", "end_time", "jitter",
    "overlap_policy", "catch_up_policy", "catch_up_window", "paused", "priority", "labels",
)  # fmt: skip


@click.group()
def schedules() -> None:
    """Let agents run by themselves at set times."""


@schedules.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@tenant_option
@home_option
@output_option
def apply(file: Path, home: Home, tenant: str, output: str) -> None:
    """Create the schedule that FILE holds, or update it to that.

    \b
    Example:
      tiation schedules apply schedule.yaml
    """  # noqa: D301 -- \b is click's
    document = open_document(file)
    owner, schedule_id = split_name(tenant, "schedules", document.id_at("name", what="schedule"))
    wanted = document.fill(pb.Schedule(), without="name")
    wanted.name = full_name(owner, "schedules", schedule_id)
    wanted.agent = wanted.agent and full_name(owner, "agents", wanted.agent)
    creation = pb.CreateScheduleRequest(parent=f"tenants/{owner}", schedule_id=schedule_id, schedule=wanted)
    with connect(home, schedule_pb2_grpc.ScheduleServiceStub, owner) as stub:

        def update(paths: list[str], *, validate_only: bool = False) -> Any:  # noqa: ANN401 -- as `connect`
            request = pb.UpdateScheduleRequest(
                schedule=wanted, update_mask={"paths": paths}, validate_only=validate_only
            )
            return stub.UpdateSchedule(request, timeout=TIMEOUT_S)

        found, what = bring(
            wanted,
            [field for field in _FIELDS if field != "paused" or "paused" in document.values],
            get=lambda: stub.GetSchedule(pb.GetScheduleRequest(name=wanted.name), timeout=TIMEOUT_S),
            create=lambda: stub.CreateSchedule(creation, timeout=TIMEOUT_S),
            update=update,
            preview=lambda paths: update(paths, validate_only=True),
        )
    say_applied(found, what, output)


@schedules.command("list")
@tenant_option
@home_option
@output_option
def list_schedules(home: Home, tenant: str, output: str) -> None:
    """List the schedules.

    \b
    Example:
      tiation schedules list
    """  # noqa: D301 -- \b is click's
    request = pb.ListSchedulesRequest(parent=f"tenants/{tenant}")
    with connect(home, schedule_pb2_grpc.ScheduleServiceStub, tenant) as stub:
        found = list(pages(stub.ListSchedules, request, "schedules"))
    if output == "json":
        print_json([as_json(schedule) for schedule in found])
        return
    rows = [
        (
            schedule.name.rsplit("/", 1)[-1],
            schedule.agent.rsplit("/", 1)[-1],
            schedule.cron or f"every {schedule.interval.seconds} s",
            pb.Schedule.State.Name(schedule.state),
            schedule.next_run_time.ToJsonString() if schedule.HasField("next_run_time") else "-",
            schedule.condition.reason or "-",
        )
        for schedule in found
    ]
    print_table(("schedule", "agent", "when", "state", "next", "blocked by"), rows)


@schedules.command()
@click.argument("schedule")
@tenant_option
@home_option
@output_option
def get(schedule: str, home: Home, tenant: str, output: str) -> None:
    """Show one schedule.

    \b
    Example:
      tiation schedules get nightly
    """  # noqa: D301 -- \b is click's
    _call(home, tenant, schedule, "GetSchedule", pb.GetScheduleRequest, output)


@schedules.command()
@click.argument("schedule")
@tenant_option
@home_option
@output_option
def pause(schedule: str, home: Home, tenant: str, output: str) -> None:
    """Stop a schedule until it is resumed.

    \b
    Example:
      tiation schedules pause nightly
    """  # noqa: D301 -- \b is click's
    _call(home, tenant, schedule, "PauseSchedule", pb.PauseScheduleRequest, output)


@schedules.command()
@click.argument("schedule")
@tenant_option
@home_option
@output_option
def resume(schedule: str, home: Home, tenant: str, output: str) -> None:
    """Let a paused schedule go on from now.

    \b
    Example:
      tiation schedules resume nightly
    """  # noqa: D301 -- \b is click's
    _call(home, tenant, schedule, "ResumeSchedule", pb.ResumeScheduleRequest, output)


@schedules.command()
@click.argument("schedule")
@tenant_option
@home_option
@output_option
def trigger(schedule: str, home: Home, tenant: str, output: str) -> None:
    """Start a run of a schedule now.

    \b
    Example:
      tiation schedules trigger nightly
    """  # noqa: D301 -- \b is click's
    owner, schedule_id = split_name(tenant, "schedules", schedule)
    request = pb.TriggerScheduleRequest(name=full_name(owner, "schedules", schedule_id))
    with connect(home, schedule_pb2_grpc.ScheduleServiceStub, owner) as stub:
        run = stub.TriggerSchedule(request, timeout=TIMEOUT_S)
    print_one(run, output, run.name)


@schedules.command()
@click.argument("schedule")
@click.option("--from", "first", required=True, metavar="TIME", help="The first due time, as in 2026-01-31T08:00:00Z.")
@click.option("--to", "last", required=True, metavar="TIME", help="The last due time; not in the future.")
@tenant_option
@home_option
@output_option
def backfill(schedule: str, first: str, last: str, home: Home, tenant: str, output: str) -> None:
    """Start the runs of a range of time in the past; due times that have their run get no second one.

    \b
    Example:
      tiation schedules backfill nightly --from 2026-01-01T00:00:00Z --to 2026-01-07T00:00:00Z
    """  # noqa: D301 -- \b is click's
    owner, schedule_id = split_name(tenant, "schedules", schedule)
    request = pb.BackfillScheduleRequest(name=full_name(owner, "schedules", schedule_id))
    parse(first, request.start_time, "--from")
    parse(last, request.end_time, "--to")
    with connect(home, schedule_pb2_grpc.ScheduleServiceStub, owner) as stub:
        answer = stub.BackfillSchedule(request, timeout=TIMEOUT_S)
    print_one(answer, output, f"{len(answer.runs)} started, {answer.existing_count} had been already")


@schedules.command()
@click.argument("schedule")
@tenant_option
@home_option
@output_option
def delete(schedule: str, home: Home, tenant: str, output: str) -> None:
    """Delete one schedule; its runs stay.

    \b
    Example:
      tiation schedules delete nightly
    """  # noqa: D301 -- \b is click's
    owner, schedule_id = split_name(tenant, "schedules", schedule)
    name = full_name(owner, "schedules", schedule_id)
    with connect(home, schedule_pb2_grpc.ScheduleServiceStub, owner) as stub:
        stub.DeleteSchedule(pb.DeleteScheduleRequest(name=name), timeout=TIMEOUT_S)
    click.echo(json.dumps({"deleted": name}) if output == "json" else f"{name} deleted")


def _call(home: Home, tenant: str, schedule: str, method: str, request: Any, output: str) -> None:  # noqa: ANN401
    """Call a method that takes a schedule's name and answers with the schedule; print that."""
    owner, schedule_id = split_name(tenant, "schedules", schedule)
    with connect(home, schedule_pb2_grpc.ScheduleServiceStub, owner) as stub:
        name = full_name(owner, "schedules", schedule_id)
        found = getattr(stub, method)(request(name=name), timeout=TIMEOUT_S)
    line = f"{found.name} {pb.Schedule.State.Name(found.state)}, {found.started_count} runs so far"
    line += f", next at {_text(found.next_run_time)}" if found.HasField("next_run_time") else ", not due any more"
    if found.HasField("condition"):
        line += f"\n\n{found.condition.reason}: {found.condition.message}"
    print_one(found, output, line)


def _text(moment: Timestamp) -> str:
    return moment.ToJsonString()
