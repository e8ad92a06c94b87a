"""Browsers and web clients at the gateway: gRPC-Web, Connect, CORS, conditional reads, compression, limits."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf import json_format
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

from tests.fakes.installed import CLONE, Installed, installed
from tests.fakes.ports import free_ports

CLIENT = CLONE / "examples" / "clients" / "typescript"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BUF = next(iter((CLONE / "tools" / "buf" / "node_modules" / "@bufbuild").glob("buf-*/bin/buf")), None)
AGENTS = "/v1/tenants/default/agents"
LIST_AGENTS = "/tiation.orchestrator.v1.AgentService/ListAgents"
GET_AGENT = "/tiation.orchestrator.v1.AgentService/GetAgent"
PAGE_PORT = free_ports(1)[0]
PAGE = f"http://127.0.0.1:{PAGE_PORT}"
MESSAGE = {"id": "web-1", "message": "I was charged twice this month, please refund one", "tier": "free"}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform that lets one page and the pages of one domain call, with the example deployed."""
    origins = f"{PAGE},https://*.console.example"
    with installed(tmp_path_factory.mktemp("web") / "home", TIATION_GATEWAY__CORS_ORIGINS=origins) as made:
        made.deploy_example()
        yield made


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The TypeScript client, generated from the contracts, checked and bundled."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    if not (CLIENT / "node_modules").is_dir():
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=CLIENT, check=True, timeout=300
        )
    for script in ("generate", "check", "build"):
        subprocess.run(["npm", "run", "--silent", script], cwd=CLIENT, check=True, timeout=120)
    return CLIENT / "dist"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A page on the allowed origin that loads the bundle."""
    (folder / "index.html").write_text('<!doctype html><script type="module" src="page.js"></script>')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", PAGE_PORT), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{PAGE}/index.html"
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium")
def test_a_typescript_client_in_a_browser_works_over_grpc_web(here: Installed, bundle: Path):
    token = Path(here.gateway["token_file"]).read_text().strip()
    given = {
        "url": here.gateway["url"], "token": token, "agent": "tenants/default/agents/support-triage",
        "input": json.dumps(MESSAGE),
    }  # fmt: skip
    script = CLONE / "tests" / "browser" / "call.mjs"
    with served(bundle) as page:
        finished = subprocess.run(
            ["node", str(script), str(CLIENT), str(CHROMIUM), page, json.dumps(given)],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    came = json.loads(finished.stdout)
    assert came["agents"] == ["tenants/default/agents/support-triage"]
    assert came["events"][0] == "1 RUN_CREATED"
    assert came["events"][-1].endswith("RUN_SUCCEEDED")
    assert came["stranger"].startswith("Unauthenticated")
    assert came["other_tenant"].startswith("NotFound")
    assert came["rest"]["status"] == 200
    assert came["rest"]["etag"].startswith('W/"')


def test_the_typescript_client_works_in_node_over_grpc(here: Installed, bundle: Path):
    listed = subprocess.run(
        ["node", str(bundle / "command.js"), str(here.home)], capture_output=True, text=True, timeout=60, check=False
    )
    assert listed.stdout.strip() == "tenants/default/agents/support-triage", listed.stderr
    followed = subprocess.run(
        ["node", str(bundle / "command.js"), str(here.home), "support-triage", json.dumps(MESSAGE | {"id": "web-2"})],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert followed.stdout.strip().endswith("RUN_SUCCEEDED"), followed.stderr


@pytest.mark.parametrize("protocol", ["connect", "grpc", "grpcweb"])
def test_buf_curl_speaks_every_protocol(here: Installed, protocol: str):
    if BUF is None:
        pytest.skip("buf is not installed; npm ci --prefix tools/buf")
    finished = subprocess.run(
        [
            str(BUF), "curl", "--protocol", protocol, "--cacert", str(here.home / "ca.pem"),
            "--schema", str(CLONE / "gen" / "envoy" / "descriptors.binpb"),
            "-H", f"authorization: Bearer {here.token()}", "-d", '{"parent": "tenants/default"}',
            here.gateway["url"] + LIST_AGENTS,
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["agents"][0]["name"] == "tenants/default/agents/support-triage"


CONNECT = {"connect-protocol-version": "1", "content-type": "application/json"}


def test_connect_in_json_gives_answers_and_errors_in_json(here: Installed):
    with here.rest() as client:
        answer = client.post(LIST_AGENTS, headers=CONNECT, json={"parent": "tenants/default"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["agents"][0]["name"] == "tenants/default/agents/support-triage"
        missing = client.post(GET_AGENT, headers=CONNECT, json={"name": "tenants/default/agents/nobody"})
        assert missing.status_code == 404
        assert missing.json()["code"] == "not_found"
        assert "tenants/default/agents/nobody" in missing.json()["message"]
    with here.rest("") as stranger:
        refused = stranger.post(LIST_AGENTS, headers=CONNECT, json={"parent": "tenants/default"})
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"parent": 1}', '{"stranger": 1}', "", '{"parent":' * 200, '{"parent": "\ud800"}']
)
def test_connect_refuses_what_is_no_request(here: Installed, body: str):
    with here.rest() as client:
        answer = client.post(LIST_AGENTS, headers=CONNECT, content=body.encode("utf-8", "surrogatepass"))
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == "invalid_argument"


def test_who_claims_to_speak_json_over_grpc_is_not_believed(here: Installed):
    metadata = (("x-tiation-content-type", "application/grpc+json"),)
    with here.channel() as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        listed = stub.ListAgents(agent_pb2.ListAgentsRequest(parent="tenants/default"), metadata=metadata)
    assert listed.agents


def preflight(client: httpx.Client, path: str, origin: str) -> httpx.Response:
    headers = {
        "origin": origin, "access-control-request-method": "GET", "access-control-request-headers": "authorization",
    }  # fmt: skip
    return client.options(path, headers=headers)


@pytest.mark.parametrize("path", [AGENTS, LIST_AGENTS])
def test_pages_of_allowed_origins_alone_may_call(here: Installed, path: str):
    with here.rest("") as client:
        for origin in (PAGE, "https://a.console.example", "https://a.b.console.example"):
            allowed = preflight(client, path, origin)
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == origin
            assert "authorization" in allowed.headers["access-control-allow-headers"]
        for origin in ("https://evil.example", "https://console.example.evil", "https://xconsole.example", "null"):
            assert "access-control-allow-origin" not in preflight(client, path, origin).headers


def test_a_reader_who_has_the_newest_is_told_so(here: Installed):
    path = "/v1/tenants/system/roles"
    with here.rest() as client:
        first = client.get(path)
        etag = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for held in (etag, f'"other", {etag}', "*", etag.removeprefix("W/")):
            again = client.get(path, headers={"if-none-match": held})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_an_etag_changes_with_the_answer_and_errors_are_never_kept(here: Installed):
    path = "/v1/tenants/default/principals"
    with here.rest() as client:
        before = client.get(path).headers["etag"]
        made = client.post(f"{path}?principal_id=etag-tester", json={"kind": "PROGRAM"})
        assert made.status_code == 200, made.text
        assert made.headers["cache-control"] == "no-store"
        assert client.get(path, headers={"if-none-match": before}).status_code == 200
        missing = client.get(f"{path}/nobody", headers={"if-none-match": "*"})
        assert missing.status_code == 404
        assert missing.headers["cache-control"] == "no-store"
        assert client.delete(f"{path}/etag-tester").status_code == 200


def test_large_json_is_compressed_for_who_asks(here: Installed):
    with here.rest() as client:
        plain = client.get("/v1/tenants/system/roles", headers={"accept-encoding": "identity"})
        packed = client.get("/v1/tenants/system/roles", headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.json() == plain.json()


def test_an_answer_that_does_not_come_is_cut_off(here: Installed):
    pid = here.pid("security")
    os.kill(pid, signal.SIGSTOP)
    try:
        with here.rest("") as client:
            began = time.monotonic()
            answer = client.post("/v1/tenants/default/tokens:exchange", json={"api_key": "x"}, timeout=60)
            took_s = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer.status_code in (503, 504), answer.text
    assert answer.json()["details"][0]["reason"] in ("DEADLINE_EXCEEDED", "SERVICE_UNAVAILABLE")
    assert took_s < 20
    here.wait_serving()


def test_connections_and_calls_beyond_the_limits_are_refused_and_the_others_go_on(tmp_path):
    limits = {"TIATION_GATEWAY__MAX_CALLS": "3", "TIATION_GATEWAY__MAX_CONNECTIONS": "6"}
    with installed(tmp_path / "home", **limits) as here:
        here.deploy_example()
        check_connections(here)
        check_calls(here)


def list_agents(channel: grpc.Channel) -> None:
    agent_pb2_grpc.AgentServiceStub(channel).ListAgents(
        agent_pb2.ListAgentsRequest(parent="tenants/default"), timeout=10
    )


def check_connections(here: Installed) -> None:
    """Five idle connections and one that works are all that is let in."""
    host, port = here.address.rsplit(":", 1)
    held = [socket.create_connection((host, int(port))) for _ in range(5)]
    time.sleep(0.5)  # the front door counts in another thread
    with here.channel() as channel:
        list_agents(channel)
        context = ssl.create_default_context(cafile=str(here.home / "ca.pem"))
        further = socket.create_connection((host, int(port)), timeout=5)
        with further, pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(further, server_hostname=host).recv(1)
        list_agents(channel)
    for connection in held:
        connection.close()
    time.sleep(0.5)


def check_calls(here: Installed) -> None:
    """Three streams at one service are all that it is given; the other services go on."""
    run = run_pb2.Run()
    json_format.ParseDict(MESSAGE, run.input)
    engine = here.pid("engine")
    os.kill(engine, signal.SIGSTOP)  # so that the run does not end, nor the streams of its events
    try:
        with here.channel() as channel:
            runs = run_pb2_grpc.RunServiceStub(channel)
            request = run_pb2.CreateRunRequest(parent="tenants/default/agents/support-triage", run=run)
            made = runs.CreateRun(request, timeout=10)
            streams = [runs.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=made.name)) for _ in range(3)]
            for stream in streams:
                next(stream)
            with pytest.raises(grpc.RpcError) as refused:
                list_agents(channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            with here.rest() as client:
                assert client.get(AGENTS).status_code == 503
                assert client.get("/v1/tenants/default/connections").status_code == 200
            for stream in streams:
                stream.cancel()
            time.sleep(0.5)
            list_agents(channel)
    finally:
        os.kill(engine, signal.SIGCONT)
