"""Following and answering runs with the command, in a terminal and without one, and over REST."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.installed import TIATION, Installed

FLOW = """
document: {dsl: 1.0.0, name: careful}
do:
  - both:
      fork:
        branches:
          - ask: {call: approve, with: {title: May it go on, data: {n: 7}}}
          - loop:
              for: {in: "[1, 2, 3]"}
              do:
                - turn: {set: {turn: "${ $item }"}}
  - pause: {wait: PT0.3S}
  - done: {set: {said: "${ .[0].outcome }"}}
"""


@pytest.fixture(scope="module")
def here(home_of_all: Installed, tmp_path_factory) -> Installed:
    """The platform of all tests with an agent of this module's own."""
    flow = tmp_path_factory.mktemp("careful") / "careful.yaml"
    flow.write_text(FLOW)
    home_of_all.command("agents", "apply", str(flow))
    return home_of_all


def pending(here: Installed, run: str = "", seconds: float = 20.0) -> dict[str, object]:
    """The one approval that waits, of a run or of the newest."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = here.json("approvals", "list", *(["--run", run] if run else []))
        if found:
            assert len(found) == 1
            return found[0]
        time.sleep(0.1)
    raise AssertionError("nothing waits for an answer")


def plain(text: str) -> str:
    """What a terminal shows, without its codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Terminal:
    """A command in a terminal."""

    def __init__(self, *arguments: str, home: Path) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50"}
        self.process = subprocess.Popen(
            [str(TIATION), *arguments, "--home", str(home)],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True,
        )  # fmt: skip
        os.close(theirs)
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._ours, 65536)
            except OSError:
                return
            if not read:
                return
            self.said += read.decode(errors="replace")

    def wait(self, seconds: float) -> int:
        """Wait for the command's end; returns its exit code."""
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
            self._reader.join(5)
            os.close(self._ours)
        return code


def test_a_terminal_shows_the_steps_as_they_go_on(here: Installed):
    terminal = Terminal("run", "careful", "--follow", home=here.home)
    approval = pending(here)
    deadline = time.monotonic() + 20
    while "? ask" not in plain(terminal.said) and time.monotonic() < deadline:
        time.sleep(0.05)
    here.command("approvals", "answer", str(approval["name"]).rsplit("/", 1)[1], "--approve", "--comment", "yes")
    assert terminal.wait(30) == 0, terminal.said
    said = plain(terminal.said)
    assert f"tiation approvals answer {str(approval['name']).rsplit('/', 1)[1]} --approve" in said
    assert "waiting" in said
    last = said[said.rindex("succeeded") :]
    lines = [line.rstrip() for line in last.splitlines() if line.strip()]
    assert [re.sub(r"\s+\d.*", "", line) for line in lines[1:7]] == [
        "✓ both", "  ✓ ask", "  ✓ loop", "    ✓ turn x3", "✓ pause", "✓ done",
    ]  # fmt: skip
    assert '"said": "approve"' in last
    assert any(each in terminal.said for each in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")


def test_without_a_terminal_each_event_is_a_line(here: Installed):
    run = here.command("run", "careful").stdout.strip()
    approval = pending(here, run)
    assert approval["title"] == "May it go on"
    short = "/".join(run.split("/")[i] for i in (3, 5))
    shown = here.command("approvals", "get", str(approval["name"])).stdout
    assert "answers: approve, reject" in shown
    here.command("approvals", "answer", short, "--reject")
    process = subprocess.Popen(
        [str(TIATION), "run", "careful", "--follow", "--home", str(here.home)], stdout=subprocess.PIPE, text=True
    )
    answered = pending(here)
    here.command("approvals", "answer", str(answered["name"]), "--outcome", "approve", "--data", '{"x": 1}')
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.search(r"^ +\d+ {2}input requested {2}/do/0/both/fork/branches/0/ask", said, re.MULTILINE)
    assert "input received" in said
    assert "run succeeded" in said.splitlines()[-1]


def test_with_json_the_events_are_lines_beside_the_run(here: Installed):
    process = subprocess.Popen(
        [str(TIATION), "run", "careful", "--follow", "--output", "json", "--home", str(here.home)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    here.command("approvals", "answer", str(pending(here)["name"]), "--approve")
    out, err = process.communicate(timeout=30)
    assert json.loads(out)["state"] == "SUCCEEDED"
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "RUN_SUCCEEDED"
    turns = [event for event in events if event["step"].endswith("/turn")]
    assert [(event["scope"], event["occurrence"]) for event in turns] == [("1", 1), ("1", 2), ("1", 3)]


def test_an_answer_over_rest_and_what_is_refused(here: Installed):
    run = here.command("run", "careful").stdout.strip()
    approval = pending(here, run)
    with here.rest() as client:
        deadline = time.monotonic() + 10
        while client.get(f"/v1/{run}").json()["state"] != "WAITING_INPUT":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        listed = client.get("/v1/tenants/default/approvals", params={"run": run}).json()
        assert [each["name"] for each in listed["approvals"]] == [approval["name"]]
        assert client.get(f"/v1/{approval['name']}").json()["data"] == {"n": 7}
        path = f"/v1/{run}:submitInput"
        assert client.post(path, json={"outcome": "perhaps"}).json()["details"][0]["reason"] == "OUTCOME_INVALID"
        assert client.post(path, json={"verdict": "approve"}).status_code == 400
        assert client.post(path, json={"outcome": "approve", "data": {"x": [1]}}).status_code == 200
        again = client.post(path, json={"outcome": "approve"})
        assert (again.status_code, again.json()["details"][0]["reason"]) == (400, "APPROVAL_ANSWERED")
        while client.get(f"/v1/{run}").json()["state"] != "SUCCEEDED":
            assert time.monotonic() < deadline + 20
            time.sleep(0.05)


def test_wrong_use_says_what_is_right(here: Installed):
    for arguments in (
        ["x"],
        ["x", "--approve", "--reject"],
        ["x", "--reject", "--outcome", "y"],
        ["x", "--approve", "--data", "{"],
    ):
        refused = here.command("approvals", "answer", *arguments, check=False)
        assert refused.returncode == 2, refused.stdout + refused.stderr
    missing = here.command("approvals", "answer", "none", "--approve", check=False)
    assert missing.returncode == 1
    assert "there is no tenants/default/approvals/none" in missing.stderr
