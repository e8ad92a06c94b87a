"""A platform on PostgreSQL is looked after: backed up at work, restored elsewhere, its schemas taken back and up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from pathlib import Path

from google.protobuf import json_format
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc

from tests.fakes.installed import CLONE, EXAMPLE, TIATION, Installed, installed

AGENT = "tenants/default/agents/support-triage"
MESSAGES = json.loads((EXAMPLE / "messages.json").read_text())


def a_home(path: Path, url: str) -> Installed:
    path.mkdir(mode=0o700)
    settings = path / "tiation.yaml"
    settings.touch(mode=0o600)
    settings.write_text(f"database: {url}\n")
    return Installed(path)


def start_run(here: Installed, number: int) -> None:
    run = run_pb2.Run()
    message = MESSAGES[number % len(MESSAGES)]
    content = {"id": f"load-{number}", "message": message["message"], "tier": message["tier"]}
    json_format.ParseDict(content, run.input)
    with here.channel() as channel:
        request = run_pb2.CreateRunRequest(parent=AGENT, run_id=f"load-{number}", run=run)
        run_pb2_grpc.RunServiceStub(channel).CreateRun(request, timeout=30)


def all_ended(here: Installed) -> list[run_pb2.Run]:
    """Every run, once all have ended."""
    with here.channel() as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        request = run_pb2.ListRunsRequest(parent=AGENT, page_size=1000)
        for run in stub.ListRuns(request, timeout=30).runs:
            for _ in stub.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=run.name), timeout=120):
                pass
        return list(stub.ListRuns(request, timeout=30).runs)


def follow_guide(folder: Path, url: str) -> None:
    """Restore as the guide says, where the backup and its key are."""
    guide = (CLONE / "docs" / "operating.md").read_text()
    (piece,) = [text for text in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL) if "NEW_DATABASE" in text]
    environment = {**os.environ, "NEW_DATABASE": url, "PATH": f"{TIATION.parent}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", piece]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=folder, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def findings(here: Installed) -> dict[str, dict[str, str]]:
    finished = here.command("doctor", "--output", "json", check=False)
    return {finding["what"]: finding for finding in json.loads(finished.stdout)}


def test_a_backup_under_load_goes_into_another_database_and_every_run_in_it_ends_with_one_ticket(postgres, tmp_path):
    first = a_home(tmp_path / "first", postgres.make_database("first"))
    key, file, stop = tmp_path / "backup.key", tmp_path / "nightly.age", threading.Event()
    with installed(first.home) as here:
        here.deploy_example()

        def work() -> None:
            number = 0
            while not stop.is_set():
                start_run(here, number)
                number += 1

        recipient = here.json("backup", "--new-key", str(key))["recipient"]
        worker = threading.Thread(target=work)
        worker.start()
        try:
            while len(here.tickets()) < 5:
                stop.wait(0.05)
            here.command("backup", str(file), "-r", recipient, timeout_s=120)
        finally:
            stop.set()
            worker.join()
        found = findings(here)
        assert found["PostgreSQL"]["state"] == "good", found["PostgreSQL"]
        assert found["clock"]["state"] == "good"
        assert found["schemas"]["state"] == "good"
        assert not [each for each in found.values() if each["state"] == "bad"]
    refused = Installed(tmp_path / "none").command("restore", str(file), "-i", str(key), check=False)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    follow_guide(tmp_path, postgres.make_database("again"))
    again = Installed(tmp_path / "elsewhere")
    again.command("upgrade", "--to", "orchestrator_0003")
    assert findings(again)["schemas"]["state"] == "unsure"
    with installed(again.home) as restored:
        runs = all_ended(restored)
        tickets = restored.tickets()
        assert len(runs) >= 5
        assert {run_pb2.Run.State.Name(run.state) for run in runs} == {"SUCCEEDED"}
        assert {run.name.rsplit("/", 1)[1] for run in runs} <= set(tickets)
        assert len(tickets) == len(set(tickets))
        assert restored.json("models", "list")
        assert restored.command("upgrade", "--check").returncode == 0
