"""Traces through the front proxy and every service, as a real collector receives them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fakes.collector import Collector, SpanSeen, collector
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


def run_support(here: Installed, header: str, run_id: str) -> str:
    """Have the support agent triage a ticket, in a caller's own trace; returns the run's name."""
    given = {"input": {"id": run_id, "message": "my card was stolen"}}
    with here.rest() as client:
        url = f"{AGENTS}/support-triage/runs?run_id={run_id}"
        made = client.post(url, json=given, headers={"traceparent": header})
        assert made.status_code == 200, made.text
    return str(made.json()["name"])


def wait_ended(here: Installed, name: str) -> str:
    """The state in which a run ends."""
    with here.rest() as client:
        for _ in range(300):
            answer = client.get(f"/v1/{name}", headers={"traceparent": traceparent(sampled=False)[1]})
            if answer.status_code == 200 and answer.json()["state"] in ("SUCCEEDED", "FAILED", "DEAD_LETTERED"):
                return str(answer.json()["state"])
            time.sleep(0.1)
    raise AssertionError(f"{name} does not end")


def drawn(spans: list[SpanSeen], top: str) -> dict[str, str]:
    """Of each span's name the name of the span above; every one but the caller's must be there."""
    assert len({span.span_id for span in spans}) == len(spans), "two spans with one identifier"
    names = {span.span_id: shown(span) for span in spans} | {top: "the caller"}
    for span in spans:
        assert span.parent in names, f"{shown(span)} hangs in the air"
    return {shown(span): names[span.parent] for span in spans}


def shown(span: SpanSeen) -> str:
    """A span's name, the proxy's by whose it is."""
    return "gateway" if span.service == "gateway" else span.name.rsplit("/", 1)[-1]


TREE = {
    "gateway": "the caller",
    "CreateRun": "gateway",
    "run support-triage": "CreateRun",
    "step understand": "run support-triage",
    "step route": "run support-triage",
    "step open-ticket": "run support-triage",
    "ModelInfer": "step understand",
    "batch": "ModelInfer",
    "Decide": "step route",
    "Invoke": "step open-ticket",
}
"""What a run of the example leaves, each span below another."""


def test_a_run_is_one_tree_from_the_front_proxy_to_the_last_call(traced):
    here, receives = traced
    trace_id, header = traceparent(sampled=True)
    name = run_support(here, header, "one-tree")
    assert wait_ended(here, name) == "SUCCEEDED"
    spans = receives.wait_for(trace_id, lambda spans: set(map(shown, spans)) >= set(TREE))
    tree = drawn(spans, header.split("-")[2])
    tree.pop("ModelMetadata", None)  # asked for once by each orchestrator
    assert tree == TREE
    (whole,) = [span for span in spans if span.name.startswith("run ")]
    assert whole.attributes["tiation.state"] == "SUCCEEDED"
    assert whole.attributes["tiation.steps"] == 3


def test_a_run_whose_orchestrator_is_killed_is_still_one_tree(traced):
    here, receives = traced
    for number in range(3):
        trace_id, header = traceparent(sampled=True)
        seen = threading.Event()

        def kill(seen: threading.Event = seen, pause_s: float = 0.01 * number) -> None:
            seen.wait(30)
            time.sleep(pause_s)
            here.kill("orchestrator")

        killer = threading.Thread(target=kill)
        killer.start()
        name = run_support(here, header, f"killed-{number}")
        seen.set()
        killer.join()
        here.wait_serving()
        assert wait_ended(here, name) == "SUCCEEDED"
        spans = receives.wait_for(trace_id, lambda spans: any(span.name.startswith("run ") for span in spans))
        time.sleep(3)  # what the others still hold back
        spans = [span for span in receives.of_trace(trace_id) if shown(span) != "ModelMetadata"]
        # Of a call that a process was serving as it died there is no span, nor of what it had not sent yet.
        created = [span.span_id for span in spans if shown(span) == "CreateRun"]
        (whole,) = [span for span in spans if span.name.startswith("run ")]
        top = header.split("-")[2]
        if not created:
            spans = [replace(span, parent=top) if span is whole else span for span in spans]
        tree = drawn(spans, top)
        assert {"step understand", "step route", "step open-ticket"} <= set(tree)
        assert {tree[step] for step in tree if step.startswith("step ")} == {"run support-triage"}


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
