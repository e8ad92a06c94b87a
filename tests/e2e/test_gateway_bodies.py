"""What the gateway says of requests that it does not pass on: bodies too large or with unknown names, tokens, paths."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess

import grpc
import httpx
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc

from tests.e2e.test_bad_input import tokens
from tests.fakes.installed import Installed

AGENTS = "/v1/tenants/default/agents"
MEBI = 2**20
FLOW = """document: {dsl: 1.0.0, namespace: tests, name: bodies, version: 1.0.0}
do:
  - say:
      set: '${ . }'
"""

UNKNOWN = {
    "at the top": ("POST", f"{AGENTS}/any/runs", {"inputt": {}}, "inputt", "input"),
    "of a resource": ("POST", f"{AGENTS}?agent_id=bad", {"flow": "x", "colour": 1}, "colour", "flow"),
    "in a list": (
        "POST", "/v1/tenants/default/connections?connection_id=bad",
        {"connector": "sql", "operations": [{"operationId": "a"}, {"operationId": "b", "efect": "NONE"}]},
        "efect", "effect",
    ),
    "below a message": (
        "POST", "/v1/tenants/default/connections?connection_id=bad",
        {"connector": "sql", "retry": {"maxAttempt": 3}}, "maxAttempt", "maxAttempts",
    ),
    "of a change": ("PATCH", f"{AGENTS}/any?update_mask=flow", {"flows": "x"}, "flows", "flow"),
    "of a verb": ("POST", "/v1/tenants/default/decisions/any:decide", {"facts": {}}, "facts", "input"),
    "behind a large text": ("POST", f"{AGENTS}?agent_id=bad", {"flow": 'x"{[\\' * MEBI, "z": 1}, "z", "flow"),
}  # fmt: skip


def status(answer: httpx.Response, code: int, reason: str) -> str:
    """The message of a `google.rpc.Status` with that HTTP code and reason."""
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["details"][0]["reason"] == reason, body
    assert body["message"] == body["message"].strip() != ""
    return body["message"]


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_name_that_the_contract_does_not_know_is_refused_by_name(home_of_all: Installed, case: str):
    method, path, body, unknown, known = UNKNOWN[case]
    with home_of_all.rest() as client:
        said = status(client.request(method, path, json=body), 400, "REQUEST_INVALID")
    assert said.startswith(f"the body holds `{unknown}`, which is unknown there; known are ")
    assert known in said


def test_what_a_body_may_hold_is_passed_on(home_of_all: Installed):
    """Both names of a field, and whatever a caller wants within a value of any JSON."""
    anything = {"inputt": [{"nope": "}]"}, 'a "quoted" \\ name'], "": {"x": None}, "number": 7}
    with home_of_all.rest() as client:
        made = client.post(
            AGENTS, params={"agent_id": "bodies"}, json={"flow": FLOW, "display_name": "", "labels": {"any": "x"}}
        )
        assert made.status_code == 200, made.text
        run = client.post(f"{AGENTS}/bodies/runs", json={"input": anything, "labels": {"some": "thing"}})
        assert run.status_code == 200, run.text
        assert run.json()["input"] == anything
        for text in ("", "{}", " { } ", '{"input" : 1 }\n', '{"input":"\\ud83d\\ude00"}'):
            begun = client.post(f"{AGENTS}/bodies/runs", content=text, headers={"content-type": "application/json"})
            assert begun.status_code == 200, (text, begun.text)
        for text in ("{", "[]", '{"a"', '{"a":', '{"input": [}', "nonsense", '"x"', "[" * 200, '{"input":' * 90):
            refused = client.post(f"{AGENTS}/bodies/runs", content=text, headers={"content-type": "application/json"})
            assert refused.status_code == 400, (text, refused.text)
        client.delete(f"{AGENTS}/bodies")


def test_a_body_that_says_it_is_far_too_large_is_refused_before_it_is_sent(home_of_all: Installed):
    """Over HTTP/2 as RFC 9113 (section 8.1) has it: a whole answer, then the stream is reset with NO_ERROR."""
    frames = refused_stream(home_of_all, 1_000_000_000)
    kinds = [kind for kind, _, _ in frames]
    assert kinds == ["HEADERS", "DATA", "RST_STREAM"]
    answer = json.loads(frames[1][2])
    assert answer["details"][0]["reason"] == "LIMIT_EXCEEDED"
    assert answer["message"] == f"the request has 1000000000 bytes; at most {16 * MEBI} are taken"
    assert frames[1][1] & 0x1, "the answer ends"
    assert struct.unpack(">I", frames[2][2]) == (0,)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize(
    ("path", "size", "most"),
    [
        (f"{AGENTS}?agent_id=bad", 100_000_000, 16 * MEBI),
        ("/v1/chat/completions", 17_000_000, 16 * MEBI),
        ("/v1/tenants/default/webhooks/never-was:receive", 2_000_000, MEBI),
    ],
)
def test_curl_is_told_that_a_body_is_too_large(home_of_all: Installed, tmp_path, version, path, size, most):
    """What it sends is taken first: many a client reads no answer while it still sends."""
    body = tmp_path / "body.json"
    body.write_bytes(b'{"flow": "' + b"x" * size + b'"}')
    finished = subprocess.run(
        ["curl", "-sS", version, "--cacert", str(home_of_all.home / "ca.pem"), "-X", "POST", "-T", str(body),
         "-H", f"Authorization: Bearer {home_of_all.token()}", "-H", "Content-Type: application/json",
         f"{home_of_all.gateway['url']}{path}", "--write-out", "\n%{http_code}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    said, _, code = finished.stdout.rpartition("\n")
    assert code == "413"
    assert f"the request has {size + 12} bytes; at most {most} are taken" in said
    assert "limit_exceeded" in said.lower()
    assert json.loads(said)


def test_what_is_too_large_is_never_held(home_of_all: Installed):
    """Of 250 MB that are sent piece by piece, the proxy keeps none."""
    proxy = psutil.Process(home_of_all.pid("envoy"))
    before, most = proxy.memory_info().rss, 0

    def pieces():
        nonlocal most
        for _ in range(250):
            yield b"x" * 1_000_000
            most = max(most, proxy.memory_info().rss)

    with home_of_all.rest() as client:
        answer = client.post(AGENTS, content=pieces(), headers={"content-length": "250000000"})
    assert answer.status_code == 413
    assert most - before < 64 * MEBI


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/all-minilm-l6-v2/infer", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models/all-minilm-l6-v2", "GET"),
        ("PUT", f"{AGENTS}?x=1", "GET, POST"),
        ("GET", "/v1/tenants/default/models/iris:classify", "POST"),
        ("PUT", f"{AGENTS}/a", "DELETE, GET, PATCH"),
    ],
)
def test_a_verb_that_a_path_does_not_take_is_405_with_those_that_it_takes(home_of_all, method, path, allowed):
    with home_of_all.rest() as client:
        answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert f"this path takes {' and '.join(allowed.split(', '))} only" in answer.text


@pytest.mark.parametrize("path", ["/v1/responses", "/v2/models/a/nada", "/v1/tenants/default/nothing", "/nothing"])
def test_a_path_where_nothing_is_says_where_paths_are_listed(home_of_all: Installed, path: str):
    with home_of_all.rest() as client:
        answer = client.post(path, json={})
    assert answer.status_code == 404
    assert "there is nothing at this path; /openapi.json lists what there is" in answer.text


@pytest.mark.parametrize(
    ("token", "reason", "said"),
    [
        ("", "TOKEN_MISSING", "send an access token"),
        ("expired", "TOKEN_EXPIRED", "the access token has expired; get a new one with `tiation token`"),
        ("tampered", "TOKEN_INVALID", "the access token does not hold; `tiation token` prints a new one"),
    ],
)
def test_tokens_are_refused_in_the_same_words_over_grpc(home_of_all: Installed, token: str, reason: str, said: str):
    held = tokens(home_of_all)[token] if token else ""
    with home_of_all.channel(held) as channel, pytest.raises(grpc.RpcError) as caught:
        agent_pb2_grpc.AgentServiceStub(channel).ListAgents(agent_pb2.ListAgentsRequest(parent="tenants/default"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details().startswith(said)
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(caught.value).details[0].Unpack(info)
    assert info.reason == reason


def test_tokens_are_refused_in_our_words(home_of_all: Installed):
    held = tokens(home_of_all)
    for headers, reason, said in (
        ({}, "TOKEN_MISSING", "send an access token: Authorization: Bearer …"),
        ({"authorization": "Basic abc"}, "TOKEN_MISSING", "send an access token: Authorization: Bearer …"),
        ({"authorization": f"Bearer {held['expired']}"}, "TOKEN_EXPIRED", "the access token has expired"),
        ({"authorization": f"Bearer {held['tampered']}"}, "TOKEN_INVALID", "the access token does not hold ("),
        ({"authorization": "Bearer x"}, "TOKEN_INVALID", "the access token does not hold ("),
    ):
        with home_of_all.rest("") as client:
            assert status(client.get(AGENTS, headers=headers), 401, reason).startswith(said)
            connect = client.post(
                "/tiation.orchestrator.v1.AgentService/ListAgents",
                json={}, headers={**headers, "connect-protocol-version": "1"},
            )  # fmt: skip
            assert connect.json()["code"] == "unauthenticated"
            assert connect.json()["message"].startswith(said)


@pytest.mark.parametrize("path", [f"{AGENTS}/..%2f..", f"{AGENTS}/a%2Fb", f"{AGENTS}/a%5cb"])
def test_a_path_with_an_escaped_slash_is_refused_with_a_reason(home_of_all: Installed, path: str):
    with home_of_all.rest() as client:
        said = status(client.get(httpx.URL(f"{home_of_all.gateway['url']}{path}")), 400, "REQUEST_INVALID")
    assert "escaped slash (%2f, %5c)" in said


def refused_stream(here: Installed, length: int) -> list[tuple[str, int, bytes]]:
    """Kind, flags and content of the frames that answer a request of which only the head is sent.

    Written by hand because no client of ours shows with which code a stream was reset.
    """
    names = {0: "DATA", 1: "HEADERS", 3: "RST_STREAM"}
    host, port = here.address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=str(here.home / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    head = b"".join(
        b"\0" + length_of(name) + name + length_of(value) + value
        for name, value in (
            (b":method", b"POST"), (b":scheme", b"https"), (b":authority", here.address.encode()),
            (b":path", f"{AGENTS}?agent_id=bad".encode()), (b"content-type", b"application/json"),
            (b"authorization", f"Bearer {here.token()}".encode()), (b"content-length", str(length).encode()),
        )
    )  # fmt: skip
    found: list[tuple[str, int, bytes]] = []
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=host) as line,
    ):
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 0x4, 1, head))
        data = b""
        while not found or found[-1][0] != "RST_STREAM":
            piece = line.recv(65536)
            assert piece, found
            data += piece
            while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
                kind, flags, stream = data[3], data[4], int.from_bytes(data[5:9], "big")
                if stream == 1 and kind in names:
                    found.append((names[kind], flags, data[9 : 9 + size]))
                data = data[9 + size :]
    return found


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def length_of(text: bytes) -> bytes:
    """A text's length as HPACK has it (RFC 7541, section 5.1, a prefix of seven bits)."""
    if len(text) < 127:
        return bytes([len(text)])
    found, rest = [127], len(text) - 127
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes([*found, rest])
