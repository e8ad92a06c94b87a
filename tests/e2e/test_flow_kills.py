"""SIGKILL of the orchestrator at each commit point of loops, branches, waits and approvals: the run still ends well."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf import json_format
from tiation.orchestrator.v1 import approval_pb2, approval_pb2_grpc, run_pb2, run_pb2_grpc

from tests.fakes.installed import Installed, installed

AGENT = "tenants/default/agents/busy"
TICKET = """
    call: connect
    with:
      connection: crm
      operation: openTicket
      input: {id: 'ID', message: m, intent: i, score: 1, queue: q, priority: p, sla_hours: 1}
"""


def ticket(name: str, text: str, indent: int) -> str:
    """A step that opens a ticket."""
    lines = TICKET.replace("ID", text).strip("\n").split("\n")
    return f"{' ' * indent}- {name}:\n" + "\n".join(f"{' ' * (indent + 2)}{line}" for line in lines) + "\n"


FLOW = (
    """document: {dsl: 1.0.0, name: busy}
do:
  - each:
      for: {each: letter, in: '["a", "b"]'}
      do:
"""
    + ticket("open", '${ $workflow.input.id + "-" + $letter }', 8)
    + """  - both:
      fork:
        branches:
          - one:
              do:
"""
    + ticket("open", '${ $workflow.input.id + "-one" }', 16)
    + """                - pause: {wait: PT2S}
"""
    + ticket("close", '${ $workflow.input.id + "-one-later" }', 16)
    + """          - two:
              do:
                - ask: {call: approve, with: {title: 'Go on?'}}
"""
    + ticket("open", '${ $workflow.input.id + "-two" }', 16)
    + """  - done: {set: {done: true}}
"""
)
OPENED = ("a", "b", "one", "one-later", "two")
POINTS = (
    "RUN_STARTED", "STEP_STARTED", "STEP_SUCCEEDED", "STEP_WAITING", "INPUT_REQUESTED", "RUN_WAITING", "INPUT_RECEIVED",
)  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform of this module's own with the CRM and an agent that loops, forks, waits and asks."""
    with installed(tmp_path_factory.mktemp("flow-kills") / "home") as made:
        made.deploy_example()
        flow = made.home.parent / "busy.yaml"
        flow.write_text(FLOW)
        made.command("agents", "apply", str(flow))
        yield made


def start(here: Installed, run_id: str) -> str:
    run = run_pb2.Run()
    json_format.ParseDict({"id": run_id}, run.input)
    with here.channel() as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        return stub.CreateRun(run_pb2.CreateRunRequest(parent=AGENT, run_id=run_id, run=run), timeout=30).name


def patiently(attempt, timeout_s: float = 60.0):
    """Try until it is answered; what is away for a moment is asked again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return attempt()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def answer(here: Installed, name: str) -> approval_pb2.Approval:
    """Approve what a run asks, as soon as it asks; with a request id, so that a broken answer may be repeated."""
    request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    request = approval_pb2.SubmitInputRequest(name=name, outcome="approve", request_id=request_id)

    def attempt() -> approval_pb2.Approval:
        with here.channel() as channel:
            return approval_pb2_grpc.ApprovalServiceStub(channel).SubmitInput(request, timeout=20)

    return patiently(attempt)


def follow(here: Installed, name: str, seen: list[run_pb2.RunEvent], timeout_s: float = 90.0) -> None:
    """Every event of a run until its end, resumed as often as the stream breaks."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with here.channel() as channel:
                request = run_pb2.StreamRunEventsRequest(name=name, after_sequence=seen[-1].sequence if seen else 0)
                for each in run_pb2_grpc.RunServiceStub(channel).StreamRunEvents(request, timeout=40):
                    if each.HasField("event"):
                        seen.append(each.event)
        except grpc.RpcError:
            time.sleep(0.2)
        if seen and kind(seen[-1]) in ("RUN_SUCCEEDED", "RUN_FAILED", "RUN_CANCELLED"):
            return
    raise AssertionError(f"{name} did not end: {seen}")


def kind(event: run_pb2.RunEvent) -> str:
    return run_pb2.RunEvent.Type.Name(event.type)


def check(here: Installed, name: str, events: list[run_pb2.RunEvent]) -> None:
    """It succeeded, its events are in order, no committed step ran twice, each ticket is there once."""
    run_id = name.rsplit("/", 1)[1]
    assert kind(events[-1]) == "RUN_SUCCEEDED", events[-1]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    committed = [(e.scope, e.step, e.occurrence) for e in events if kind(e) == "STEP_SUCCEEDED"]
    assert len(committed) == len(set(committed)), committed
    opened = sorted(each for each in here.tickets() if each.startswith(f"{run_id}-"))
    assert opened == sorted(f"{run_id}-{text}" for text in OPENED)
    for once in ("STEP_WAITING", "INPUT_REQUESTED", "INPUT_RECEIVED"):
        assert [kind(event) for event in events].count(once) == 1
    until = next(json_format.MessageToDict(event.result)["until"] for event in events if kind(event) == "STEP_WAITING")
    late = next(e for e in events if kind(e) == "STEP_STARTED" and e.step.endswith("/close"))
    assert late.event_time.ToDatetime(UTC) >= datetime.fromisoformat(until)


@pytest.mark.parametrize("point", POINTS)
def test_a_run_survives_the_kill_of_the_orchestrator_at_a_commit_point(here: Installed, point: str):
    here.wait_serving()
    name = start(here, f"flow-{point.lower().replace('_', '-')}")
    seen: list[run_pb2.RunEvent] = []
    over = threading.Event()
    killed: list[int] = []
    answered: list[approval_pb2.Approval] = []

    def meanwhile() -> None:
        """Kill once when the point is reached, and answer once it was asked."""
        while not over.is_set():
            kinds = [kind(event) for event in seen]
            if not killed and point in kinds:
                killed.append(here.kill("orchestrator"))
            if not answered and "INPUT_REQUESTED" in kinds and (killed or point == "INPUT_RECEIVED"):
                answered.append(answer(here, name))
            time.sleep(0.0005)

    helper = threading.Thread(target=meanwhile)
    helper.start()
    try:
        follow(here, name, seen)
    finally:
        over.set()
        helper.join()
    assert killed, f"{point} was never seen"
    check(here, name, seen)


def test_many_waiting_runs_survive_the_kill_of_every_service(here: Installed):
    here.wait_serving()
    names = [start(here, f"storm-{number}") for number in range(8)]
    time.sleep(0.5)
    for service in ("orchestrator", "integration", "orchestrator"):
        here.kill(service)
        time.sleep(0.7)
    for name in names:
        patiently(lambda name=name: answer_when_asked(here, name))
    for name in names:
        seen: list[run_pb2.RunEvent] = []
        follow(here, name, seen)
        check(here, name, seen)


def answer_when_asked(here: Installed, name: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            answer(here, name)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def test_a_run_waits_through_the_end_of_every_process(tmp_path_factory):
    """The platform goes down altogether; when it is back, the moment that was fixed before is kept."""
    home = tmp_path_factory.mktemp("asleep") / "home"
    flow = home.parent / "sleeper.yaml"
    flow.write_text("document: {dsl: 1.0.0, name: sleeper}\ndo: [{w: {wait: PT3S}}, {s: {set: {x: 1}}}]\n")
    with installed(home) as here:
        here.command("agents", "apply", str(flow))
        name = here.command("run", "sleeper", "--input", "{}").stdout.strip()
        deadline = time.monotonic() + 20
        with here.rest() as client:
            while client.get(f"/v1/{name}").json()["state"] != "WAITING":
                assert time.monotonic() < deadline
                time.sleep(0.1)
    time.sleep(3)
    with installed(home) as here, here.rest() as client:
        deadline = time.monotonic() + 20
        while (run := client.get(f"/v1/{name}").json())["state"] != "SUCCEEDED":
            assert time.monotonic() < deadline, run
            time.sleep(0.1)
    assert json.dumps(run["output"]).replace(".0", "") == '{"x": 1}'
