"""Runs as they are looked after, over REST, gRPC and the command: redrives, forks, priorities, traffic, schedules."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc, schedule_pb2, schedule_pb2_grpc

from tests.e2e.test_lives import VOLATILE, Life, live_by_grpc, live_by_rest
from tests.fakes.answers import reason_of
from tests.fakes.installed import CLONE, EXAMPLE, Installed, installed

AGENTS = "/v1/tenants/default/agents"
WRITER = """
document: {dsl: 1.0.0, namespace: tests, name: writer, version: 1.0.0}
do:
  - one: {call: connect, with: {connection: ledger, operation: write, input: {what: "${ $workflow.id + \\" one\\" }"}}}
  - two: {call: connect, with: {connection: later, operation: write, input: {what: "${ $workflow.id + \\" two\\" }"}}}
"""
CONNECTION = """
name: %s
connector: sql
config: {url: "sqlite:///runs.db"}
operations:
  - operationId: write
    effect: IDEMPOTENT
    spec: {statement: "INSERT INTO %s (what) VALUES (:what)"}
"""
ANSWER = "document: {dsl: 1.0.0, namespace: tests, name: %s, version: 1.0.0}\ndo: [{s: {set: {answer: %s}}}]\n"


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform that works on one run at a time, with two connections to one database."""
    folder = tmp_path_factory.mktemp("runs")
    with installed(folder / "home", TIATION_ORCHESTRATOR__MAX_CONCURRENT_RUNS="1") as made:
        data = made.home / "integration" / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        execute(made, "CREATE TABLE ledger (what TEXT NOT NULL)")
        for name, table in (("ledger", "ledger"), ("later", "missing")):
            (folder / f"{name}.yaml").write_text(CONNECTION % (name, table))
            made.command("connections", "apply", str(folder / f"{name}.yaml"))
        bring(made, folder, "writer", WRITER)
        bring(made, folder, "answerer", ANSWER % ("answerer", 42))
        yield made


def bring(here: Installed, folder, name: str, flow: str) -> None:
    """Create or change an agent."""
    (folder / f"{name}-agent.yaml").write_text(flow)
    here.command("agents", "apply", str(folder / f"{name}-agent.yaml"))


def execute(here: Installed, statement: str) -> list[str]:
    """Run a statement on the database that the agents write to; returns the first column."""
    database = sqlite3.connect(here.home / "integration" / "data" / "runs.db")
    try:
        return [row[0] for row in database.execute(statement)]
    finally:
        database.commit()
        database.close()


def ended(client, name: str, *, timeout_s: float = 40.0) -> dict:
    """A run once it has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        run = client.get(f"/v1/{name}").json()
        if run.get("endTime"):
            return run
        time.sleep(0.05)
    raise AssertionError(f"{name} did not end")


def test_a_redriven_run_and_its_fork_write_what_they_should_and_once(here: Installed):
    with here.rest() as client:
        made = client.post(f"{AGENTS}/writer/runs", params={"run_id": "r1"}, json={}).json()
        failed = ended(client, made["name"])
        assert (failed["state"], failed["error"]["instance"]) == ("FAILED", "/do/1/two")
        refused = client.post(f"/v1/{made['name']}:redrive", json={}, headers=header(here, "viewer"))
        assert refused.status_code == 403
        execute(here, "CREATE TABLE missing (what TEXT NOT NULL)")
        redriven = client.post(f"/v1/{made['name']}:redrive", json={})
        assert redriven.status_code == 200, redriven.text
        assert redriven.json()["attempt"] == 2
        run = ended(client, made["name"])
        assert run["state"] == "SUCCEEDED", run
        again = client.post(f"/v1/{made['name']}:redrive", json={})
        assert (again.status_code, again.json()["details"][0]["reason"]) == (400, "RUN_NOT_FAILED")
        assert execute(here, "SELECT what FROM ledger") == [f"{made['name']} one"]
        assert execute(here, "SELECT what FROM missing") == [f"{made['name']} two"]
        forked = client.post(f"/v1/{made['name']}:fork", json={"step": "/do/1/two", "run_id": "f1"}).json()
        assert (forked["sourceRun"], forked["sourceSequence"]) == (made["name"], "4")
        again = client.post(f"/v1/{made['name']}:fork", json={"step": "/do/1/two", "run_id": "f1"}).json()
        assert (again["name"], again["uid"]) == (forked["name"], forked["uid"])
        assert ended(client, forked["name"])["state"] == "SUCCEEDED"
        assert execute(here, "SELECT what FROM ledger") == [f"{made['name']} one"]
        assert execute(here, "SELECT what FROM missing") == [f"{made['name']} two", f"{forked['name']} two"]
        listed = client.get(f"{AGENTS}/writer/runs", params={"filter": f'source_run = "{made["name"]}"'}).json()
        assert [each["name"] for each in listed["runs"]] == [forked["name"]]


def header(here: Installed, role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {here.token(role=role)}"}


def test_a_redrive_and_a_fork_read_alike_over_grpc(here: Installed):
    with here.channel() as channel, here.rest() as client:
        stub = run_pb2_grpc.RunServiceStub(channel)
        execute(here, "ALTER TABLE missing RENAME TO away")
        made = stub.CreateRun(run_pb2.CreateRunRequest(parent="tenants/default/agents/writer", run=run_pb2.Run()))
        assert ended(client, made.name)["state"] == "FAILED"
        execute(here, "ALTER TABLE away RENAME TO missing")
        stub.RedriveRun(run_pb2.RedriveRunRequest(name=made.name))
        assert ended(client, made.name)["state"] == "SUCCEEDED"
        events = [each.event for each in stub.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=made.name))]
        redriven = [event for event in events if event.type == run_pb2.RunEvent.RUN_REDRIVEN]
        assert [event.principal for event in redriven] == ["tenants/system/principals/operator"]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ForkRun(run_pb2.ForkRunRequest(name=made.name, after_sequence=999))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        forked = stub.ForkRun(run_pb2.ForkRunRequest(name=made.name, step="/do/0/one"))
        assert ended(client, forked.name)["state"] == "SUCCEEDED"
        assert execute(here, "SELECT what FROM ledger").count(f"{forked.name} one") == 1


def test_a_filter_that_is_none_says_where(here: Installed):
    with here.rest() as client:
        answer = client.get(f"{AGENTS}/writer/runs", params={"filter": "state = LOST"})
        assert answer.status_code == 400
        assert "character 9" in answer.json()["message"]
        first = client.get(f"{AGENTS}/writer/runs", params={"page_size": 1, "order_by": "create_time desc"}).json()
        other = client.get(f"{AGENTS}/writer/runs", params={"page_size": 1, "page_token": first["nextPageToken"]})
        assert other.status_code == 400


def test_the_most_urgent_of_those_that_wait_begins_first(here: Installed):
    name = f"{AGENTS}/answerer"
    with here.rest() as client:
        client.patch(name, params={"update_mask": "queue"}, json={"queue": {"maxPriority": 9, "maxQueued": 4}})
        here.command("agents", "pause", "answerer")
        made = {}
        for run_id, priority in (("low", 0), ("high", 9), ("middle", 5), ("last", 0)):
            sent = client.post(f"{name}/runs", params={"run_id": run_id}, json={"priority": priority})
            made[run_id] = sent.json()["name"]
        assert {client.get(f"/v1/{each}").json()["state"] for each in made.values()} == {"QUEUED"}
        full = client.post(f"{name}/runs", json={})
        assert full.status_code == 429
        kinds = {detail["@type"].rsplit(".", 1)[1]: detail for detail in full.json()["details"]}
        assert kinds["ErrorInfo"]["reason"] == "QUEUE_FULL"
        assert kinds["QuotaFailure"]["violations"][0]["subject"] == "tenants/default/agents/answerer"
        here.command("agents", "resume", "answerer")
        began = {run_id: ended(client, each)["startTime"] for run_id, each in made.items()}
        assert sorted(began, key=began.__getitem__) == ["high", "middle", "low", "last"]
        too_high = client.post(f"{name}/runs", json={"priority": 10})
        assert too_high.status_code == 400
        client.patch(name, params={"update_mask": "queue"}, json={})


def test_a_full_queue_is_a_quota_failure_over_grpc(here: Installed):
    here.command("agents", "queue", "answerer", "--max-queued", "1")
    here.command("agents", "pause", "answerer")
    with here.channel() as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        request = run_pb2.CreateRunRequest(parent="tenants/default/agents/answerer", run=run_pb2.Run())
        stub.CreateRun(request)
        with pytest.raises(grpc.RpcError) as caught:
            stub.CreateRun(request)
    here.command("agents", "queue", "answerer", "--max-queued", "0")
    here.command("agents", "resume", "answerer")
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(caught.value) == "QUEUE_FULL"
    status = status_pb2.Status()
    status.ParseFromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    assert any(detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR) for detail in status.details)


def test_new_runs_go_where_the_traffic_goes(here: Installed, tmp_path):
    for answer in (1, 2):
        bring(here, tmp_path, "split", ANSWER % ("split", answer))

    def spread(prefix: str) -> set[str]:
        with here.rest() as client:
            names = [
                client.post(f"{AGENTS}/split/runs", params={"run_id": f"{prefix}-{n}"}, json={}).json()["name"]
                for n in range(40)
            ]
            return {f"{ended(client, name)['output']['answer']:.0f}" for name in names}

    here.command("agents", "traffic", "split", "r1=50", "r2=50")
    assert spread("both") == {"1", "2"}
    here.command("agents", "rollback", "split")
    assert spread("back") == {"1"}
    bring(here, tmp_path, "split", ANSWER % ("split", 3))
    assert spread("still") == {"1"}
    here.command("agents", "traffic", "split")
    assert spread("newest") == {"3"}
    wrong = here.command("agents", "traffic", "split", "r1=50", "r9=50", check=False)
    assert (wrong.returncode, "no revision r9" in wrong.stderr) == (1, True)


SCHEDULE = Life(
    schedule_pb2, schedule_pb2_grpc, "schedule", "schedules",
    {"agent": "tenants/default/agents/answerer", "cron": "0 0 1 1 *", "timezone": "Europe/Berlin", "input": {"a": 1}},
    {"cron": "0 0 2 1 *"}, ("pause", "resume"),
)  # fmt: skip


def test_a_schedule_lives_alike_over_rest_and_grpc(here: Installed):
    assert "createTime" in VOLATILE
    lives = []
    for protocol, run in (("rest", live_by_rest), ("grpc", live_by_grpc)):
        text = json.dumps(run(here, SCHEDULE, f"life-{protocol}")).replace(f"life-{protocol}", "life-x")
        lives.append(json.loads(text))
    assert lives[0] == lives[1]
    created, paused, resumed = lives[0][0], lives[0][4], lives[0][5]
    assert (created["state"], paused["state"], resumed["state"]) == ("ACTIVE", "PAUSED", "ACTIVE")
    assert created["nextRunTime"].endswith("-12-31T23:00:00Z")
    assert "nextRunTime" not in paused


def test_a_schedule_starts_each_run_once_though_the_orchestrator_is_killed(here: Installed):
    body = {
        "agent": "tenants/default/agents/answerer", "interval": "1s", "overlapPolicy": "ALLOW", "catchUpPolicy": "ALL",
        "inputTimeField": "due",
    }  # fmt: skip
    with here.rest() as client:
        made = client.post("/v1/tenants/default/schedules", params={"schedule_id": "ticking"}, json=body)
        assert made.status_code == 200, made.text
    for _ in range(3):
        time.sleep(2.3)
        here.kill("orchestrator")
        here.wait_serving()
    time.sleep(2)
    with here.rest() as client:
        client.post("/v1/tenants/default/schedules/ticking:pause", json={})
        schedule = client.get("/v1/tenants/default/schedules/ticking").json()
        condition = f'schedule = "{schedule["name"]}"'
        runs = client.get(f"{AGENTS}/answerer/runs", params={"filter": condition, "page_size": 1000}).json()["runs"]
        times = sorted(run["scheduledTime"] for run in runs)
        assert len(times) == len(set(times)) == int(schedule["startedCount"])
        seconds = [int(time.mktime(time.strptime(each[:19], "%Y-%m-%dT%H:%M:%S"))) for each in times]
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds))), "a due time has no run"
        assert len(seconds) >= 6
        assert all(run["input"]["due"] == run["scheduledTime"] for run in runs)
        assert ended(client, runs[-1]["name"])["state"] == "SUCCEEDED"
        assert client.delete("/v1/tenants/default/schedules/ticking").status_code == 200


def test_what_no_schedule_can_be_is_one_clear_error(here: Installed):
    good = {"agent": "tenants/default/agents/answerer", "cron": "* * * * *"}
    with here.rest() as client:
        for change, code, says in (
            ({"cron": "* * *"}, 400, "five fields"),
            ({"timezone": "../../etc/passwd"}, 400, "IANA"),
            ({"interval": "5s"}, 400, "exactly one"),
            ({"agent": "tenants/default/agents/never-was"}, 404, "never-was"),
            ({"agent": "tenants/system/agents/x"}, 403, "runs.create"),
            ({"priority": 10}, 400, "priority"),
            ({"startTime": "0000-99-01T00:00:00Z"}, 400, ""),
        ):
            answer = client.post(
                "/v1/tenants/default/schedules", params={"schedule_id": "bad"}, json={**good, **change}
            )
            assert answer.status_code == code, (change, answer.text)
            assert says in answer.text, (change, answer.text)
        assert client.get("/v1/tenants/default/schedules/bad").status_code == 404


def test_a_schedule_that_is_applied_again_is_left_as_it_is(here: Installed, tmp_path):
    file = tmp_path / "hourly.yaml"
    file.write_text("name: hourly\nagent: answerer\ncron: 0 * * * *\ninput: {a: 1}\njitter: 60s\n")
    assert "created" in here.command("schedules", "apply", str(file)).stdout
    here.command("schedules", "pause", "hourly")
    assert "unchanged" in here.command("schedules", "apply", str(file)).stdout
    assert here.json("schedules", "get", "hourly")["state"] == "PAUSED"
    file.write_text(file.read_text().replace("0 * * * *", "5 * * * *") + "paused: false\n")
    assert "updated" in here.command("schedules", "apply", str(file)).stdout
    found = here.json("schedules", "get", "hourly")
    assert (found["cron"], found["state"]) == ("5 * * * *", "ACTIVE")
    here.command("schedules", "delete", "hourly")


def test_the_commands_of_the_guide_run_as_they_stand(here: Installed, tmp_path):
    (tmp_path / "examples").symlink_to(EXAMPLE.parent)
    blocks = re.findall(r"```sh\n(.*?)```", (CLONE / "docs" / "runs.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    path = f"{CLONE / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TIATION_HOME": str(here.home)}
    said = []
    for block in blocks:
        ran = subprocess.run(
            ["bash", "-euc", block], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, block + ran.stdout + ran.stderr
        said.append(ran.stdout)
    assert "it failed" in said[0]
    assert "ticket-router/first" in said[0]
    assert "attempt 2" in said[1]
    assert "2 started" in said[-1]
    with here.rest() as client:
        assert ended(client, "tenants/default/agents/ticket-router/runs/first")["state"] == "SUCCEEDED"
    assert "tiation_runs_dead_lettered" in here.metrics("orchestrator")
