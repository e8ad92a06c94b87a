"""Bad input through the gateway, as gRPC and as REST: one clear status each, and nothing half-done."""

from __future__ import annotations

import json
import time

import grpc
import pytest
from google.protobuf import json_format
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc

from mesh.config import Settings
from security.bootstrap import signing_key
from tests.fakes.installed import Installed
from tests.fakes.transcode import call_as_grpc

HTTP_OF = {3: 400, 5: 404, 7: 403, 16: 401, 9: 400, 6: 409}
HEAD = "document: {dsl: 1.0.0, namespace: tests, name: bad, version: 1.0.0}\n"

REQUESTS = {
    "unknown agent": ("GET", "/v1/tenants/default/agents/never-was", None, 404),
    "unknown run": ("GET", "/v1/tenants/default/agents/never-was/runs/r1", None, 404),
    "run of an unknown agent": ("POST", "/v1/tenants/default/agents/never-was/runs", {}, 404),
    "unknown model": ("GET", "/v1/tenants/default/models/never-was", None, 404),
    "unknown decision": ("POST", "/v1/tenants/default/decisions/never-was:decide", {"input": {}}, 404),
    "unknown connection": ("POST", "/v1/tenants/default/connections/never-was:invoke", {"operationId": "x"}, 404),
    "unknown tenant": ("GET", "/v1/tenants/never-was/agents", None, 404),
    "another tenant": ("GET", "/v1/tenants/system/principals", None, 404),
    "unknown path": ("GET", "/v2x/nothing", None, 404),
    "unknown query parameter": ("GET", "/v1/tenants/default/agents?colour=blue", None, 400),
    "negative page size": ("GET", "/v1/tenants/default/agents?page_size=-1", None, 400),
    "foreign page token": ("GET", "/v1/tenants/default/agents?page_token=AAAA", None, 400),
    "malformed name": ("GET", "/v1/tenants/Default/agents", None, 400),
    "field of the wrong type": ("POST", "/v1/tenants/default/agents?agent_id=bad", {"flow": 7}, 400),
    "unknown field": ("POST", "/v1/tenants/default/agents?agent_id=bad", {"colour": "blue"}, 400),
    "bad id": ("POST", "/v1/tenants/default/agents?agent_id=Bad_Id", {"flow": HEAD}, 400),
    "no flow": ("POST", "/v1/tenants/default/agents?agent_id=bad", {}, 400),
    "unknown step": (
        "POST", "/v1/tenants/default/agents?agent_id=bad", {"flow": HEAD + "do:\n  - one:\n      dance: {}\n"}, 400,
    ),
    "jq syntax error": (
        "POST", "/v1/tenants/default/agents?agent_id=bad",
        {"flow": HEAD + "do:\n  - one:\n      set:\n        a: ${ .b | | }\n"}, 400,
    ),
    "decision with a function node": (
        "POST", "/v1/tenants/default/decisions?decision_id=bad",
        {"graph": '{"nodes": [{"id": "f", "type": "functionNode", "content": "x"}], "edges": []}'}, 400,
    ),
    "connection with an unknown connector": (
        "POST", "/v1/tenants/default/connections?connection_id=bad", {"connector": "telepathy"}, 400,
    ),
    "connection to the platform's own database": (
        "POST", "/v1/tenants/default/connections?connection_id=bad",
        {"connector": "sql", "config": {"url": "sqlite:///../integration.db"}}, 400,
    ),
}  # fmt: skip

SAID_IN_REST_ONLY = {"unknown path", "unknown query parameter", "field of the wrong type", "unknown field"}


def check_status(answer, expected: int) -> dict:
    """The answer is a `google.rpc.Status` with that HTTP code."""
    assert answer.status_code == expected, answer.text
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    body = answer.json()
    assert set(body) >= {"code", "message"}, body
    assert body["message"], body
    assert HTTP_OF.get(body["code"], expected) == expected, body
    return body


@pytest.mark.parametrize("case", REQUESTS)
def test_rest_answers_bad_input_with_one_clear_status(home_of_all: Installed, case: str):
    method, path, body, expected = REQUESTS[case]
    with home_of_all.rest() as client:
        check_status(client.request(method, path, json=body), expected)
        if "bad" in path:
            kind = path.split("/")[4].split("?")[0]
            assert client.get(f"/v1/tenants/default/{kind}/bad").status_code == 404


@pytest.mark.parametrize("case", [case for case in REQUESTS if case not in SAID_IN_REST_ONLY])
def test_grpc_answers_bad_input_as_rest_does(home_of_all: Installed, case: str):
    method, path, body, expected = REQUESTS[case]
    with home_of_all.channel() as channel:
        code = call_as_grpc(channel, method, path, body)
    assert HTTP_OF[code.value[0]] == expected


def test_a_flow_that_is_wrong_names_line_and_column(home_of_all: Installed):
    for case, line in (("unknown step", 4), ("jq syntax error", 5)):
        _, _, body, _ = REQUESTS[case]
        agent = json_format.ParseDict(body, agent_pb2.Agent())
        request = agent_pb2.CreateAgentRequest(parent="tenants/default", agent_id="bad", agent=agent)
        with home_of_all.channel() as channel, pytest.raises(grpc.RpcError) as caught:
            agent_pb2_grpc.AgentServiceStub(channel).CreateAgent(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert f"line {line}" in caught.value.details(), caught.value.details()
        assert "column" in caught.value.details()


def test_malformed_bytes_are_refused_in_both_forms(home_of_all: Installed):
    with home_of_all.rest() as client:
        for text in ("{", "[]", '{"flow": ', "\x00", "nonsense"):
            answer = client.post("/v1/tenants/default/agents", params={"agent_id": "bad"}, content=text)
            check_status(answer, 400)
    with home_of_all.channel() as channel:
        raw = channel.unary_unary("/tiation.orchestrator.v1.AgentService/GetAgent")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff\xff\xff")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def tokens(here: Installed) -> dict[str, str]:
    """Tokens that must not hold."""
    key = signing_key(here.home, Settings())
    now = int(time.time())
    claims = {
        "tenant": "default", "subject": "tenants/system/principals/operator", "role": "", "token_id": "t",
        "begin": now, "end": now + 60,
    }  # fmt: skip
    good = key.token(**claims)
    head, body, signature = good.split(".")
    from joserfc import jws

    audience = jws.serialize_compact(
        {"alg": "ES256", "kid": key.key_id},
        json.dumps(
            {"iss": key.issuer, "aud": "elsewhere", "sub": claims["subject"], "tenant": "default", "exp": now + 60}
        ),
        key.key,
    )
    return {
        "none": "",
        "no token at all": "nonsense",
        "expired": key.token(**{**claims, "begin": 0, "end": now - 3600}),
        "tampered": f"{head}.{body[:-4]}AAAA.{signature}",
        "wrong audience": audience,
    }


@pytest.mark.parametrize("case", ["none", "no token at all", "expired", "tampered", "wrong audience"])
def test_a_token_that_does_not_hold_is_unauthenticated(home_of_all: Installed, case: str):
    token = tokens(home_of_all)[case]
    with home_of_all.rest(token) as client:
        check_status(client.get("/v1/tenants/default/agents"), 401)
    with home_of_all.channel(token) as channel, pytest.raises(grpc.RpcError) as caught:
        agent_pb2_grpc.AgentServiceStub(channel).ListAgents(agent_pb2.ListAgentsRequest(parent="tenants/default"))
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_missing_permission_is_said(home_of_all: Installed):
    viewer = home_of_all.token(role="viewer")
    with home_of_all.rest(viewer) as client:
        assert client.get("/v1/tenants/default/agents").status_code == 200
        body = check_status(client.delete("/v1/tenants/default/agents/never-was"), 403)
        assert "orchestrator.agents.delete" in body["message"]


def test_a_hundred_megabytes_are_refused_and_the_gateway_goes_on(home_of_all: Installed):
    with home_of_all.rest() as client:
        huge = b'{"flow": "' + b"x" * 100_000_000 + b'"}'
        try:
            check_status(client.post("/v1/tenants/default/agents", params={"agent_id": "bad"}, content=huge), 413)
        finally:
            assert client.get("/healthz").status_code == 200


def test_internal_methods_cannot_be_reached(home_of_all: Installed):
    with home_of_all.channel() as channel:
        for method in ("security.v1.PolicyService/StreamPolicy", "security.v1.RecordService/AppendRecords"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/tiation.{method}")(b"", timeout=5)
            assert caught.value.code() in (
                grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED,
            )  # fmt: skip


def test_a_flow_that_never_ends_is_ended_by_its_budget(home_of_all: Installed, tmp_path):
    flow = tmp_path / "endless.yaml"
    flow.write_text(
        "document: {dsl: 1.0.0, namespace: tests, name: endless, version: 1.0.0}\n"
        "do:\n  - again:\n      set: {n: 1}\n      then: again\n"
    )
    home_of_all.command("agents", "apply", str(flow))
    ended = home_of_all.command("run", "endless", "--input", "{}", "--follow", check=False, timeout_s=60)
    assert ended.returncode != 0
    assert "budget" in ended.stdout + ended.stderr
