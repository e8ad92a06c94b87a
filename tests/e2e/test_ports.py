"""Every service port, as somebody on the machine reaches it: only the mesh gets in, and even it needs permission."""

from __future__ import annotations

import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc

from mesh.config import SERVICES, Settings
from security.app import bootstrap, issue_svid
from tests.fakes.installed import Installed


def channel(here: Installed, service: str, svid: dict[str, str] | None, *, trust: str = "") -> grpc.Channel:
    """A channel straight to a service, with a certificate or without."""
    address = here.gateway["services"][service]["address"]
    options = [("grpc.ssl_target_name_override", f"{service}.tiation.local")]
    bundle = (trust or (svid or {}).get("trust_bundle", "")).encode()
    if svid is None:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(bundle), options=options)
    key, chain = svid["private_key"].encode(), svid["certificate_chain"].encode()
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(bundle, key, chain), options=options)


def check_unreachable(opened: grpc.Channel) -> None:
    """No call gets through the handshake."""
    with opened, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=3)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("service", SERVICES)
def test_strangers_are_refused_at_the_handshake(home_of_all: Installed, tmp_path, service: str):
    ours = issue_svid(home_of_all.home, Settings(), "supervisor")
    with channel(home_of_all, service, ours) as opened:
        answer = health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=3)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    check_unreachable(grpc.insecure_channel(home_of_all.gateway["services"][service]["address"]))
    check_unreachable(channel(home_of_all, service, None, trust=ours["trust_bundle"]))
    bootstrap(tmp_path, Settings())
    strangers = issue_svid(tmp_path, Settings(), "gateway")
    check_unreachable(channel(home_of_all, service, strangers, trust=ours["trust_bundle"]))
    front = json.loads((home_of_all.home / "supervisor" / "svid.json").read_text())
    assert set(front) == {"certificate_chain", "private_key", "trust_bundle"}


def test_the_right_certificate_without_permission_is_refused_at_the_service_itself(home_of_all: Installed):
    gateway = issue_svid(home_of_all.home, Settings(), "gateway")
    viewer = [("authorization", f"Bearer {home_of_all.token(role='viewer')}")]
    with channel(home_of_all, "orchestrator", gateway) as opened:
        stub = agent_pb2_grpc.AgentServiceStub(opened)
        stub.ListAgents(agent_pb2.ListAgentsRequest(parent="tenants/default"), metadata=viewer, timeout=5)
        for metadata, code in ((viewer, grpc.StatusCode.PERMISSION_DENIED), ([], grpc.StatusCode.UNAUTHENTICATED)):
            with pytest.raises(grpc.RpcError) as caught:
                stub.DeleteAgent(
                    agent_pb2.DeleteAgentRequest(name="tenants/default/agents/x"), metadata=metadata, timeout=5
                )
            assert caught.value.code() == code


def test_a_service_that_a_contract_does_not_list_may_not_speak_for_a_user(home_of_all: Installed):
    engine = issue_svid(home_of_all.home, Settings(), "engine")
    token = [("authorization", f"Bearer {home_of_all.token()}")]
    with channel(home_of_all, "integration", engine) as opened, pytest.raises(grpc.RpcError) as caught:
        request = connection_pb2.InvokeRequest(name="tenants/default/connections/crm", operation_id="openTicket")
        connection_pb2_grpc.ConnectionServiceStub(opened).Invoke(request, metadata=token, timeout=5)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
