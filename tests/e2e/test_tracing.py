"""Traces through the front proxy and every service, as a real collector receives them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest

from tests.fakes.collector import Collector, collector
from tests.fakes.installed import Installed, installed

AGENTS = "/v1/tenants/default/agents"


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> Iterator[tuple[Installed, Collector]]:
    """A platform that sends what is asked for to a collector, and samples nothing by itself."""
    folder = tmp_path_factory.mktemp("tracing")
    with collector(folder) as receives:
        settings = {"TIATION_TRACING__ENDPOINT": receives.endpoint, "TIATION_TRACING__SAMPLE_RATIO": "0"}
        with installed(folder / "home", **settings) as here:
            here.deploy_example()
            yield here, receives


def traceparent(*, sampled: bool) -> tuple[str, str]:
    """A caller's own trace: its identifier and the header."""
    trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-{'01' if sampled else '00'}"


def test_a_call_leaves_a_span_in_the_front_proxy_and_below_it_one_in_the_service(traced):
    here, receives = traced
    trace_id, header = traceparent(sampled=True)
    with here.rest() as client:
        assert client.get(AGENTS, headers={"traceparent": header}).status_code == 200
    spans = receives.wait_for(trace_id, lambda spans: len(spans) >= 2)
    gateway, service = spans
    assert (gateway.service, service.service) == ("gateway", "orchestrator")
    assert gateway.parent == header.split("-")[2]
    assert service.parent == gateway.span_id
    assert service.name == "tiation.orchestrator.v1.AgentService/ListAgents"
    assert service.attributes["rpc.grpc.status_code"] == 0
    assert service.attributes["tiation.tenant"] == "default"
    assert gateway.start_ns <= service.start_ns <= service.end_ns


def test_a_denied_call_says_so_and_is_no_error_of_ours(traced):
    here, receives = traced
    trace_id, header = traceparent(sampled=True)
    with here.rest(here.token(role="viewer")) as client:
        assert client.delete(f"{AGENTS}/support-triage", headers={"traceparent": header}).status_code == 403
    _, service = receives.wait_for(trace_id, lambda spans: len(spans) >= 2)
    assert service.attributes["error.type"] == "PERMISSION_DENIED"
    assert not service.failed


def test_what_the_caller_does_not_sample_leaves_nothing(traced):
    here, receives = traced
    unsampled, header = traceparent(sampled=False)
    sampled, other = traceparent(sampled=True)
    with here.rest() as client:
        for given in (header, "no trace at all", other):
            assert client.get(AGENTS, headers={"traceparent": given}).status_code == 200
    receives.wait_for(sampled, lambda spans: len(spans) >= 2)
    assert not receives.of_trace(unsampled)


def test_the_record_of_a_call_names_its_trace(traced):
    here, _ = traced
    trace_id, header = traceparent(sampled=False)
    with here.rest() as client:
        client.get(f"{AGENTS}/nobody", headers={"traceparent": header})
        found = []
        for _ in range(50):
            records = client.get("/v1/tenants/default/records?outcome=NOT_FOUND").json()["records"]
            found = [record for record in records if record["call"]["traceId"] == trace_id]
            if found:
                break
            time.sleep(0.2)
    assert found
