"""Figures as users get them: REST, gRPC, live, as files, in the terminal; exact though services are killed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl

import duckdb
import grpc
import httpx
import pytest
from google.protobuf import json_format
from tiation.analytics.v1 import metric_pb2, metric_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc

from tests.fakes.installed import CLONE, TIATION, Installed, installed

AGENT = "tenants/default/agents/support-triage"
LIST = "tiation.orchestrator.v1.AgentService/ListAgents"
BASE = "/v1/tenants/default/metrics"
RUNS = 6


def run_agent(here: Installed, number: int) -> None:
    """One run of the example, to its end."""
    given = json.dumps({"id": f"figure-{number}", "message": "Where is my parcel?", "tier": "free"})
    here.command("run", "support-triage", "--follow", "--input", given)


def until(there: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not there():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)


@pytest.fixture
def terminal(here: Installed) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals with `tiation top` in them, and ends what is left of them."""
    made: list[Terminal] = []

    def opened(*arguments: str) -> Terminal:
        made.append(Terminal(here, *arguments))
        return made[-1]

    yield opened
    for one in made:
        one.process.kill()
        one.process.wait(5)
        os.close(one.primary)
        os.close(one.secondary)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform of this module's own, with prices, on which the example has run."""
    home = tmp_path_factory.mktemp("figures") / "home"
    home.mkdir(mode=0o700)
    (home / "tiation.yaml").write_text("analytics: {prices: {crm: {calls_1k: 2000.0}}}\n")
    with installed(home) as made:
        until(lambda: made.command("models", "push", str(CLONE / "examples/support-triage/support-intents"),
                                   check=False).returncode == 0)  # fmt: skip
        made.deploy_example()
        for number in range(RUNS):
            run_agent(made, number)
        until(lambda: counted(made) == [RUNS] * 3)
        yield made


def counted(here: Installed) -> list[float]:
    """How many runs were counted, and of their calls those of each callee: every service ships its own records."""
    ours = "agent = support-triage AND"
    calls = [f"{ours} connection = crm", f"{ours} model = support-intents"]
    runs = total(here, metrics="runs").get("runs", 0)
    return [runs, *(total(here, metrics="calls", filter=each).get("calls", 0) for each in calls)]


def total(here: Installed, **parameters) -> dict[str, float]:
    """The totals of a question."""
    with here.rest() as client:
        answer = client.get(f"{BASE}:query", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["totals"]["values"]


def test_runs_and_the_calls_they_made_are_counted_by_agent_with_what_they_cost(here: Installed):
    with here.rest() as client:
        asked = {"metrics": ["calls", "runs", "run-states", "run-steps", "cost", "errors"], "groupBy": "agent"}
        answer = client.get(f"{BASE}:query", params=asked).json()
    triage = next(series for series in answer["series"] if series["dimensions"]["agent"] == AGENT)
    assert triage["totals"]["runStates"] == {"SUCCEEDED": str(RUNS)}
    assert triage["totals"]["values"]["run-steps"] == 3 * RUNS
    assert triage["totals"]["values"]["cost"] == 2.0 * RUNS
    assert total(here, metrics="calls", filter="agent = support-triage AND connection = crm") == {"calls": RUNS}
    assert total(here, metrics="calls", filter="agent = support-triage AND model = support-intents") == {"calls": RUNS}


def test_rest_and_grpc_say_the_same(here: Installed):
    parameters = {"metrics": ["calls", "latency-p95"], "groupBy": "model", "granularity": "HOUR"}
    parameters["filter"] = 'service = "engine"'
    with here.rest() as client, here.channel() as channel:
        rest = client.get(f"{BASE}:query", params=parameters).json()
        request = metric_pb2.QueryMetricsRequest(
            parent="tenants/default", metrics=parameters["metrics"], group_by=["model"], granularity="HOUR",
            filter=parameters["filter"],
        )  # fmt: skip
        answer = metric_pb2_grpc.AnalyticsServiceStub(channel).QueryMetrics(request)
    told = json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)
    for both in (rest, told):
        both.pop("startTime"), both.pop("endTime")
    assert rest == told
    assert rest["series"]


def test_the_live_view_comes_as_events_and_goes_on_where_it_was_left(here: Installed):
    def events(client: httpx.Client, **parameters) -> Iterator[dict]:
        with client.stream("GET", f"{BASE}:stream", params=parameters) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    with here.rest() as client:
        first = next(events(client, groupBy="agent", window="3600s", metrics="runs"))
        assert first["totals"]["values"]["runs"] >= RUNS
        resumed = events(client, groupBy="agent", afterSequence=first["sequence"])
        newer = next(resumed)
        assert int(newer["sequence"]) >= int(first["sequence"])
        refused = client.get(f"{BASE}:stream", params={"window": "7200s"})
    assert refused.status_code == 400
    assert refused.json()["message"]


def test_usage_comes_as_files_that_others_read(here: Installed, tmp_path):
    token = (here.home / "token").read_text().strip()
    sums = {}
    for kind, reader in (("CSV", "read_csv"), ("PARQUET", "read_parquet")):
        path = tmp_path / f"usage.{kind.lower()}"
        ran = subprocess.run(
            ["curl", "-fsS", "--cacert", str(here.home / "ca.pem"), "-H", f"authorization: Bearer {token}", "-D", "-",
             "-o", str(path), f"{here.gateway['url']}{BASE}:export?format={kind}&filter=agent%3Dsupport-triage"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        headers = {line.split(":")[0].lower(): line.partition(": ")[2] for line in ran.stdout.splitlines()}
        assert re.fullmatch(
            rf'attachment; filename="usage-default-\d{{8}}-\d{{8}}\.{kind.lower()}"', headers["content-disposition"]
        )
        assert headers["content-type"] == {
            "CSV": "text/csv; charset=utf-8", "PARQUET": "application/vnd.apache.parquet",
        }[kind]  # fmt: skip
        with duckdb.connect() as database:
            wanted = f"SELECT sum(calls)::INT, sum(runs)::INT, sum(cost)::DOUBLE, count(*) FROM {reader}('{path}')"
            sums[kind] = database.sql(wanted).fetchall()[0]
        assert sums[kind][3] == int(headers["x-tiation-rows"])
    assert sums["CSV"] == sums["PARQUET"]
    assert sums["CSV"][1:3] == (RUNS, 2.0 * RUNS)
    assert not list((here.home / "analytics" / "exports").iterdir())


def test_questions_that_cannot_be_answered_are_one_clear_error(here: Installed):
    cases = [
        ({"metrics": "speed"}, "metrics"),
        ({"groupBy": "colour"}, "group_by"),
        ({"filter": "agent like x"}, "filter"),
        ({"orderBy": "speed"}, "order_by"),
        ({"startTime": "1990-01-01T00:00:00Z", "granularity": "MINUTE"}, "coarser granularity"),
        ({"unknown": "1"}, "unknown"),
        ({"limit": "many"}, "limit"),
    ]
    with here.rest() as client:
        for parameters, words in cases:
            answer = client.get(f"{BASE}:query", params=parameters)
            assert answer.status_code == 400, answer.text
            assert words in answer.json()["message"], answer.text
        assert client.get("/v1/tenants/acme/metrics:query").status_code == 404
    with here.rest(token="") as client:
        assert client.get(f"{BASE}:export").status_code == 401


def load(here: Installed, stop: threading.Event, answered: list[int]) -> None:
    """Call again and again; notes how many calls were answered."""
    request = agent_pb2.ListAgentsRequest(parent="tenants/default")
    with here.channel() as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        while not stop.is_set():
            stub.ListAgents(request, timeout=20)
            answered[0] += 1


def test_counts_are_exact_though_analytics_and_security_are_killed_under_load(here: Installed):
    asked = {"metrics": "calls", "filter": f'method = "{LIST}"', "startTime": "2020-01-01T00:00:00Z"}
    before = total(here, **asked).get("calls", 0.0)
    stop, answered = threading.Event(), [[0], [0]]
    threads = [threading.Thread(target=load, args=(here, stop, numbers)) for numbers in answered]
    for thread in threads:
        thread.start()
    for service in ("analytics", "security", "analytics", "analytics", "security"):
        time.sleep(1.2)
        here.kill(service)
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join(30)
    calls = sum(numbers[0] for numbers in answered)
    assert calls > 200
    here.wait_serving()

    def counted() -> float:
        try:
            return total(here, **asked)["calls"] - before
        except (AssertionError, httpx.HTTPError):
            return -1.0

    until(lambda: counted() >= calls, 60)
    time.sleep(2.0)
    for granularity in ("MINUTE", "HOUR", "DAY"):
        start = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())
        found = total(here, **asked | {"startTime": start, "granularity": granularity})
        assert found["calls"] - before == calls, granularity
    with here.rest() as client:  # the audit agrees
        assert records(client) == before + calls


def records(client: httpx.Client) -> int:
    """How many records of the method security has."""
    found, token = 0, ""
    while True:
        page = {"service": "orchestrator", "page_size": 1000, "page_token": token}
        answer = client.get("/v1/tenants/default/records", params=page).json()
        found += sum(record["call"]["method"] == LIST for record in answer["records"])
        token = answer["nextPageToken"]
        if not token:
            return found


def test_the_services_own_figures_say_how_far_behind_it_is(here: Installed):
    def figures() -> dict[str, float]:
        text = httpx.get(here.gateway["services"]["analytics"]["metrics"]).text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tiation_analytics")]
        return {name: float(value) for name, value in lines}

    until(lambda: figures()["tiation_analytics_facts_behind"] == 0)
    found = figures()
    assert found["tiation_analytics_facts_behind_seconds"] == 0
    assert found["tiation_analytics_facts_total"] > 0
    assert found["tiation_analytics_rollup_write_seconds_count"] > 0


class Terminal:
    """`tiation top` in a terminal of its own."""

    def __init__(self, here: Installed, *arguments: str) -> None:
        self.primary, secondary = pty.openpty()
        ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.before = termios.tcgetattr(secondary)
        self.secondary = secondary
        self.process = subprocess.Popen(
            [str(TIATION), "top", "--home", str(here.home), *arguments],
            stdin=secondary, stdout=secondary, stderr=secondary, env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True, preexec_fn=lambda: ioctl(secondary, termios.TIOCSCTTY, 0),  # noqa: PLW1509 -- one ioctl
        )  # fmt: skip
        self.shown = ""

    def press(self, key: str) -> None:
        """Press a key; what was shown before is forgotten."""
        self.shown = ""
        os.write(self.primary, key.encode())

    def wait(self, *words: str, timeout_s: float = 20.0) -> None:
        """Wait until all of the words are on the screen."""
        deadline = time.monotonic() + timeout_s
        while not all(word in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown) for word in words):
            assert time.monotonic() < deadline, self.shown[-3000:]
            if select.select([self.primary], [], [], 0.2)[0]:
                self.shown += os.read(self.primary, 65536).decode(errors="replace")

    def ended(self) -> int:
        """How it ended, once it has."""
        deadline = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.primary], [], [], 0.1)[0]:
                self.shown += os.read(self.primary, 65536).decode(errors="replace")
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(5)


def test_top_draws_and_obeys_keys_and_leaves_the_terminal_as_it_was(here: Installed, terminal):
    terminal = terminal("--window", "1h")
    terminal.wait("support-triage", "rate/s", "p95", "queued", "live runs", "indow 1h")
    terminal.press("m")
    terminal.wait("support-intents", "model")
    terminal.press("t")
    terminal.wait("ConnectionService/Invoke")
    terminal.press("w")
    terminal.wait("indow 1m")
    run_agent(here, 100)
    terminal.press("a")
    terminal.wait("support-triage")
    here.kill("analytics")  # it says what is wrong, and goes on
    terminal.shown = ""
    terminal.wait("support-triage", "live runs", timeout_s=40)
    terminal.press("q")
    assert terminal.ended() == 0
    assert termios.tcgetattr(terminal.secondary) == terminal.before


def test_top_ends_at_ctrl_c_like_anything_else(here: Installed, terminal):
    until(lambda: here.command("top", "--once", check=False).returncode == 0)
    terminal = terminal()
    terminal.wait("live runs")
    terminal.press("\x03")
    assert terminal.ended() == 0
    assert termios.tcgetattr(terminal.secondary) == terminal.before


def test_top_prints_one_frame_where_there_is_no_terminal_and_documents_on_request(here: Installed):
    frame = here.command("top", "--window", "1h", "--by", "connection").stdout
    assert "crm" in frame
    assert "\x1b" not in frame
    document = here.json("top", "--once", "--window", "1h")
    row = next(row for row in document["rows"] if row["agent"] == AGENT)
    assert row["runs"] >= RUNS
    assert row["calls"] >= 3 * RUNS
    assert document["total"]["calls"] >= row["calls"]
    stream = subprocess.Popen(
        [str(TIATION), "top", "--output", "json", "--home", str(here.home)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert [json.loads(stream.stdout.readline())["by"] for _ in range(2)] == ["agent", "agent"]
    finally:
        stream.terminate()
        stream.communicate(timeout=10)
    refused = here.command("top", "--once", "--filter", "colour = red", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "filter: knows service, method" in refused.stderr


def test_the_commands_of_the_guide_work_as_they_are(here: Installed, tmp_path):
    guide = (CLONE / "docs" / "analytics.md").read_text()
    blocks = re.findall(r"```(python|sh)\n(.*?)```", guide, re.DOTALL)
    assert [language for language, _ in blocks].count("sh") >= 5
    path = f"{CLONE / '.cache' / 'bin'}:{os.environ['PATH']}"
    for language, block in blocks:
        way = block.replace(".tiation/", f"{here.home}/").replace("127.0.0.1:8443", here.address)
        way = way.replace(".venv/bin/", f"{CLONE}/.venv/bin/")
        command = [str(CLONE / ".venv/bin/python"), "-c", way] if language == "python" else ["bash", "-ec", way]
        environment = {**os.environ, "PATH": path, "TIATION_HOME": str(here.home)}
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment
        )
        assert ran.returncode == 0, way + ran.stdout + ran.stderr
        assert ran.stdout or "usage" in way, way
        assert '"code":' not in ran.stdout, ran.stdout


def test_a_stranger_to_the_mesh_cannot_follow_the_records(here: Installed):
    from tiation.security.v1 import record_pb2, record_pb2_grpc

    with here.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        next(
            iter(record_pb2_grpc.RecordServiceStub(channel).StreamRecords(record_pb2.StreamRecordsRequest(), timeout=5))
        )
    assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
