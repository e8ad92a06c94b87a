"""SIGKILL at each commit point of a run, of each service in turn: the run completes and every effect happens once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from tiation.orchestrator.v1 import run_pb2

from tests.fakes.installed import Installed, installed
from tests.fakes.runs import AGENT, check_completed, events_until_end, start
from tests.unit.engine.graphs import folder, heavy

POINTS = ("RUN_CREATED", "RUN_STARTED", "STEP_STARTED", "STEP_SUCCEEDED")
KILLED = {
    "sqlite": ("orchestrator", "engine", "integration"),
    "postgresql": ("orchestrator", "orchestrator-2", "engine", "engine-2"),
}
ON_BOTH = pytest.mark.parametrize("here", KILLED, indirect=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Iterator[Installed]:
    """A platform of this module's own on SQLite, one process a service, with the example deployed."""
    with installed(tmp_path_factory.mktemp("kills") / "home") as made:
        made.deploy_example()
        yield made


@pytest.fixture
def here(request) -> Installed:
    """A platform on the kind of database that is asked for; on PostgreSQL it has two processes of some services."""
    made: Installed = request.getfixturevalue("replicated" if request.param == "postgresql" else "plain")
    return made


@pytest.mark.parametrize(
    ("here", "service"),
    [(kind, each) for kind, all_of in KILLED.items() for each in all_of],
    indirect=["here"],
)
@pytest.mark.parametrize("point", POINTS)
def test_a_run_survives_the_kill_of_a_service_at_a_commit_point(here: Installed, service: str, point: str):
    here.wait_serving()
    run_id = f"kill-{service}-{point.lower().replace('_', '-')}"
    seen: list[run_pb2.RunEvent] = []
    name = start(here, len(run_id), run_id)
    reached = threading.Event()
    killed: list[int] = []

    def kill_when_reached() -> None:
        while not reached.is_set():
            if any(run_pb2.RunEvent.Type.Name(event.type) == point for event in seen):
                killed.append(here.kill(service))
                return
            time.sleep(0.0002)

    killer = threading.Thread(target=kill_when_reached)
    killer.start()
    try:
        events = events_until_end(here, name, seen=seen)
    finally:
        reached.set()
        killer.join()
    assert killed, f"{point} was never seen"
    check_completed(here, name, events)


@ON_BOTH
def test_many_runs_survive_kills_of_every_service_and_nothing_is_lost_or_doubled(here: Installed):
    here.wait_serving()
    before = len(here.tickets())
    names = [start(here, number, f"storm-{number}") for number in range(20)]
    for service in ("orchestrator", "engine", "integration"):
        here.kill(service)
        time.sleep(0.5)
    for name in names:
        check_completed(here, name, events_until_end(here, name))
    assert len(here.tickets()) == before + 20
    here.wait_serving()


@ON_BOTH
def test_every_call_leaves_its_record_though_the_service_is_killed_in_between(here: Installed):
    here.wait_serving()
    viewer = here.token(role="viewer")
    answered = {"ok": 0, "denied": 0}
    from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc

    def before_count() -> tuple[int, int]:
        return count(here, "OK"), count(here, "PERMISSION_DENIED")

    time.sleep(1)
    ok_before, denied_before = before_count()
    number = killed = 0
    while sum(answered.values()) < 100:
        if number == 50 and not killed:
            killed = here.kill("orchestrator")
        with here.channel(viewer) as channel:
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            try:
                if number % 5:
                    stub.GetAgent(agent_pb2.GetAgentRequest(name=AGENT), timeout=10)
                    answered["ok"] += 1
                else:
                    stub.DeleteAgent(agent_pb2.DeleteAgentRequest(name=AGENT), timeout=10)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.PERMISSION_DENIED:
                    answered["denied"] += 1
                else:
                    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                    time.sleep(0.1)
                    continue
        number += 1
    assert answered == {"ok": 80, "denied": 20}
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        ok, denied = before_count()
        if (ok - ok_before, denied - denied_before) == (80, 20):
            break
        time.sleep(0.3)
    assert (ok - ok_before, denied - denied_before) == (80, 20)


def count(here: Installed, outcome: str) -> int:
    """How many records of this module's agent calls by the limited token ended so."""
    found, token = 0, ""
    with here.rest() as client:
        while True:
            answer = client.get(
                "/v1/tenants/default/records",
                params={"service": "orchestrator", "outcome": outcome, "page_size": 1000, "page_token": token},
            ).json()
            found += sum(
                record["call"]["method"].endswith(("AgentService/GetAgent", "AgentService/DeleteAgent"))
                for record in answer["records"]
            )
            token = answer["nextPageToken"]
            if not token:
                return found


def test_a_push_whose_engine_is_killed_goes_on_from_there(plain: Installed, tmp_path: Path):
    pushed = folder(tmp_path / "heavy", "name: heavy\nkind: onnx\n", model=heavy(96))
    plain.wait_serving()
    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(plain.command, "models", "push", str(pushed))
        killed = False
        while not pushing.done():
            for path in (plain.home / "engine" / "models").glob(".uploads/default/*/files/model.onnx"):
                with suppress(FileNotFoundError):
                    seen.append(path.stat().st_size)
            if not killed and seen and seen[-1] > 8 << 20:
                plain.kill("engine")
                killed = True
            time.sleep(0.002)
    assert killed
    assert "heavy/versions/1 ready" in pushing.result().stdout
    assert seen[-1] > seen[0]
    assert seen == sorted(seen), "what had come was sent again"
    assert not list((plain.home / "engine" / "models").glob(".uploads/default/*"))
    plain.command("models", "delete", "heavy")
