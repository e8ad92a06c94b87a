"""Looking after a platform: the doctor, a backup while it works, and the platform that comes back from it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf import json_format
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc

from tests.fakes.installed import EXAMPLE, Installed, installed

AGENT = "tenants/default/agents/support-triage"
MESSAGES = json.loads((EXAMPLE / "messages.json").read_text())


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform of this module's own with the example deployed."""
    with installed(tmp_path_factory.mktemp("operate") / "home") as made:
        made.deploy_example()
        yield made


def start_run(here: Installed, run_id: str) -> str:
    run = run_pb2.Run()
    message = MESSAGES[len(run_id) % len(MESSAGES)]
    json_format.ParseDict({"id": run_id, "message": message["message"], "tier": message["tier"]}, run.input)
    with here.channel() as channel:
        request = run_pb2.CreateRunRequest(parent=AGENT, run_id=run_id, run=run)
        return str(run_pb2_grpc.RunServiceStub(channel).CreateRun(request, timeout=30).name)


def all_ended(here: Installed) -> list[run_pb2.Run]:
    """Every run, once all have ended."""
    with here.channel() as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        runs = stub.ListRuns(run_pb2.ListRunsRequest(parent=AGENT, page_size=1000), timeout=30).runs
        for run in runs:
            for _ in stub.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=run.name), timeout=60):
                pass
        return list(stub.ListRuns(run_pb2.ListRunsRequest(parent=AGENT, page_size=1000), timeout=30).runs)


def test_a_backup_taken_under_load_comes_back_and_every_run_in_it_ends_with_one_ticket(here: Installed, tmp_path):
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            start_run(here, f"load-{number}")
            number += 1

    key, file = tmp_path / "backup.key", tmp_path / "home.age"
    recipient = here.json("backup", "--new-key", str(key))["recipient"]
    worker = threading.Thread(target=work)
    worker.start()
    try:
        while len(here.tickets()) < 5:
            pass
        here.command("backup", str(file), "-r", recipient)
    finally:
        stop.set()
        worker.join()
    here.command("restore", str(file), "-i", str(key), "--check")
    again = Installed(tmp_path / "again")
    again.command("restore", str(file), "-i", str(key))
    with installed(again.home) as restored:
        runs = all_ended(restored)
        tickets = restored.tickets()
        assert len(runs) >= 5
        assert {run_pb2.Run.State.Name(run.state) for run in runs} == {"SUCCEEDED"}
        assert {run.name.rsplit("/", 1)[1] for run in runs} <= set(tickets)
        assert len(tickets) == len(set(tickets))
        assert restored.json("models", "list")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("backup", "x.age"), "-r"),
        (("backup", "x.age", "-r", "nobody"), "age1"),
        (("restore", "/dev/null", "-i", "/dev/null"), "platform runs"),
        (("restore", "/dev/null", "-i", "/dev/null", "--check"), "no age key"),
    ],
)
def test_wrong_usage_is_said(here: Installed, arguments, said):
    finished = here.command(*arguments, check=False)
    assert finished.returncode in (1, 2)
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_backup_is_never_written_into_the_home_it_saves(here: Installed):
    finished = here.command("backup", str(here.home / "b.age"), "--new-key", str(here.home.parent / "k"), check=False)
    assert finished.returncode == 2
    assert not (here.home / "b.age").exists()


def findings(here: Installed, exit_code: int) -> dict[str, list[dict[str, str]]]:
    finished = here.command("doctor", "--output", "json", check=False)
    assert finished.returncode == exit_code, finished.stdout + finished.stderr
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(finished.stdout):
        found.setdefault(finding["what"], []).append(finding)
    return found


def test_the_doctor_finds_nothing_wrong_with_a_platform_that_works(here: Installed):
    found = findings(here, 0)
    assert {finding["state"] for each in found.values() for finding in each} <= {"good", "unsure"}
    assert len(found["service"]) >= 5
    assert found["front door"][0]["state"] == "good"


def test_a_process_that_was_killed_is_named_with_its_signal_and_the_log_has_the_time(here: Installed):
    os.kill(here.gateway["services"]["analytics"]["pid"], signal.SIGSEGV)
    deadline = time.monotonic() + 30
    while "ended by itself" not in (found := findings(here, 0)) or found["ended by itself"][0]["state"] == "good":
        assert time.monotonic() < deadline
    here.wait_serving()
    said = "analytics was ended by signal 11 (SIGSEGV)"
    assert found["ended by itself"][0]["detail"].startswith(f"{said} at 20")
    assert f"{said} at 20" in here.command("status").stdout
    services = json.loads(here.command("status", "--output", "json").stdout)["services"]
    assert services["analytics"]["ended"]["how"] == said.removeprefix("analytics ")
    assert "ended" not in services["security"]
    lines = [json.loads(line) for line in here.command("logs", "supervisor", "-n", "500").stdout.splitlines()]
    (line,) = [each for each in lines if each["message"].startswith(said)]
    assert (line["log.level"], line["service.name"]) == ("warning", "supervisor")
    assert abs(datetime.fromisoformat(line["@timestamp"]) - datetime.now(UTC)) < timedelta(minutes=2)
    assert lines[0]["message"].startswith("Starting the platform on ")
    assert here.said.splitlines()[1].startswith("  ")
    assert "Three ways in:" in here.said


def test_the_doctor_finds_what_is_wrong_and_says_how_to_mend_it(tmp_path):
    with installed(tmp_path / "home") as here:
        pass
    (here.home / "operator.key").chmod(0o644)
    (here.home / "integration" / "vault.key").rename(here.home / "away")
    database = here.home / "engine" / "engine.db"
    data = bytearray(database.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    database.write_bytes(data)
    (here.home / "tiation.yaml").write_text("engin: {}\n")
    found = findings(here, 1)
    for what, detail in (
        ("settings", "engine"), ("who may read", "operator.key"), ("keys", "vault.key"),
        ("database", "engine/engine.db"),
    ):  # fmt: skip
        (finding,) = found[what]
        assert finding["state"] == "bad"
        assert detail in finding["detail"]
        assert finding["remedy"]


def test_the_doctor_knows_a_taken_port_and_a_home_that_is_none_yet(here: Installed, tmp_path):
    port = here.address.rsplit(":", 1)[1]
    other = Installed(tmp_path / "other")
    Path(other.home).mkdir(mode=0o700)
    (other.home / "tiation.yaml").write_text(f"gateway: {{port: {port}}}\n")
    found = findings(other, 1)
    assert found["home"][0]["state"] == "unsure"
    assert found["port"][0]["state"] == "bad"
    assert port in found["port"][0]["detail"]
