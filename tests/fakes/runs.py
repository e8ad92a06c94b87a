"""Runs of the example agent on an installed platform: started, followed to their end, checked."""

from __future__ import annotations

import json
import time

import grpc
from google.protobuf import json_format
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc

from tests.fakes.installed import EXAMPLE, Installed

__all__ = ["AGENT", "check_completed", "events_until_end", "start"]

AGENT = "tenants/default/agents/support-triage"
MESSAGES = json.loads((EXAMPLE / "messages.json").read_text())


def start(here: Installed, number: int, run_id: str) -> str:
    """Begin a run of the example; returns its name."""
    run = run_pb2.Run()
    message = MESSAGES[number % len(MESSAGES)]
    json_format.ParseDict({"id": run_id, "message": message["message"], "tier": message["tier"]}, run.input)
    request = run_pb2.CreateRunRequest(parent=AGENT, run_id=run_id, run=run)
    with here.channel() as channel:
        return run_pb2_grpc.RunServiceStub(channel).CreateRun(request, timeout=30).name


def events_until_end(here: Installed, name: str, timeout_s: float = 60.0, seen=None) -> list[run_pb2.RunEvent]:
    """Every event of a run, resumed as often as the stream breaks."""
    events: list[run_pb2.RunEvent] = seen if seen is not None else []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        after = events[-1].sequence if events else 0
        try:
            with here.channel() as channel:
                request = run_pb2.StreamRunEventsRequest(name=name, after_sequence=after)
                for answer in run_pb2_grpc.RunServiceStub(channel).StreamRunEvents(request, timeout=20):
                    if answer.HasField("event"):
                        events.append(answer.event)
        except grpc.RpcError:
            time.sleep(0.2)
            continue
        if events and run_pb2.RunEvent.Type.Name(events[-1].type) in ("RUN_SUCCEEDED", "RUN_FAILED", "RUN_CANCELLED"):
            return events
    raise AssertionError(f"{name} did not end: {events}")


def check_completed(here: Installed, name: str, events: list[run_pb2.RunEvent]) -> None:
    """The run succeeded, its events are in order, no committed step ran twice, and its ticket exists once."""
    kinds = [run_pb2.RunEvent.Type.Name(event.type) for event in events]
    assert kinds[-1] == "RUN_SUCCEEDED", events[-1]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    committed = [event.step for event in events if event.type == run_pb2.RunEvent.STEP_SUCCEEDED]
    assert len(committed) == len(set(committed)) == 3, committed
    assert here.tickets().count(name.rsplit("/", 1)[1]) == 1
