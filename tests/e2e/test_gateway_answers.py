"""What the gateway says when it refuses by itself: too much is asked at once, or a service is down."""

from __future__ import annotations

import time

import grpc
import pytest
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc

from tests.fakes.installed import Installed, installed

AGENTS = "/v1/tenants/default/agents"


def list_agents(channel: grpc.Channel) -> None:
    agent_pb2_grpc.AgentServiceStub(channel).ListAgents(agent_pb2.ListAgentsRequest(parent="tenants/default"))


def check(answer, code: int, reason: str) -> None:
    """The answer is one `google.rpc.Status` with that code and reason."""
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["code"] == code, body
    assert body["message"]
    assert body["details"][0]["reason"] == reason


def test_more_calls_than_allowed_are_told_to_come_back(tmp_path):
    with installed(tmp_path / "home", TIATION_GATEWAY__REQUESTS_PER_SECOND="20") as here:
        with here.rest() as client:
            answers = [client.get(AGENTS) for _ in range(60)]
            refused = [answer for answer in answers if answer.status_code != 200]
            assert 1 <= len(refused) < 60
            for answer in refused:
                assert answer.status_code == 429
                check(answer, 8, "LIMIT_EXCEEDED")
                assert answer.headers["retry-after"] == "1"
        with here.channel() as channel:
            codes = set()
            for _ in range(60):
                try:
                    list_agents(channel)
                except grpc.RpcError as error:
                    codes.add(error.code())
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        time.sleep(1.5)
        with here.rest() as client:
            assert client.get(AGENTS).status_code == 200


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("platform") / "home") as made:
        yield made


def test_a_service_that_is_down_is_said_and_the_others_go_on(here: Installed):
    with here.rest() as client, here.channel() as channel:
        here.kill("orchestrator")
        over_rest, over_grpc = None, None
        deadline = time.monotonic() + 10
        while (over_rest is None or over_grpc is None) and time.monotonic() < deadline:
            answer = client.get(AGENTS)
            if answer.status_code != 200:
                over_rest = answer
            try:
                list_agents(channel)
            except grpc.RpcError as error:
                over_grpc = error
            assert client.get("/v1/tenants/default/connections").status_code == 200
            if answer.status_code == 200:  # it is back before both had been seen: once more
                here.wait_serving()
                here.kill("orchestrator")
        assert over_rest.status_code == 503, over_rest.text
        check(over_rest, 14, "SERVICE_UNAVAILABLE")
        assert over_grpc.code() == grpc.StatusCode.UNAVAILABLE
        here.wait_serving()
        assert client.get(AGENTS).status_code == 200
        list_agents(channel)
