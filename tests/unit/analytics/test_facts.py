"""What a record comes to: names that can be, a beginning that can be, what was used, and the end of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiation.mesh.v1 import call_record_pb2

from analytics.adapters.records import fact_of
from analytics.dimensions import DIMENSIONS
from analytics.facts import Price, Prices, Usage
from analytics.metrics import METRICS
from mesh.db import Database
from tests.fakes.analytics_facts import NOON
from tests.unit.analytics.conftest import Counter


def a_record(**given) -> call_record_pb2.CallRecord:
    named = {"service": "engine", "method": "tiation.engine.v1.ModelService/GetModel", "tenant": "default"}
    record = call_record_pb2.CallRecord(**(named | given))
    if not record.HasField("start_time"):
        record.start_time.FromSeconds(NOON)
    return record


def dimensions(**given) -> dict[str, str]:
    return dict(zip(DIMENSIONS, fact_of(a_record(**given), NOON).series, strict=True))


def test_resources_become_dimensions():
    found = dimensions(
        actor="tenants/default/agents/triage", resource="tenants/default/models/m/versions/3", subject="tenants/x/y/z"
    )
    assert found == {
        "service": "engine", "method": "tiation.engine.v1.ModelService/GetModel",
        "agent": "tenants/default/agents/triage",
        "model": "tenants/default/models/m", "model_version": "3", "connection": "", "principal": "tenants/x/y/z",
    }  # fmt: skip
    assert dimensions(resource="tenants/default/connections/crm")["connection"] == "tenants/default/connections/crm"
    assert dimensions(resource="tenants/default/agents/a/runs/r1")["agent"] == "tenants/default/agents/a"
    assert dimensions(resource="tenants/system/models/m")["model"] == "tenants/system/models/m"


@given(st.text(max_size=200))
def test_names_that_no_resource_can_have_count_as_none(text: str):
    found = dimensions(resource=f"tenants/default/models/{text}", actor=text)
    assert found["agent"] == ""
    assert found["model"] in ("", f"tenants/default/models/{text.split('/', maxsplit=1)[0]}")
    assert len(found["model"]) < 100


@pytest.mark.parametrize("code", [5, 7])
def test_calls_that_were_refused_unseen_count_for_no_resource_of_theirs_but_for_their_agent(code: int):
    found = dimensions(resource="tenants/default/models/ghost", actor="tenants/default/agents/a", code=code)
    assert (found["model"], found["agent"]) == ("", "tenants/default/agents/a")


def test_a_beginning_that_cannot_be_is_replaced_by_when_the_record_was_received():
    ahead = a_record()
    ahead.start_time.FromSeconds(NOON + 400)
    assert fact_of(ahead, NOON).start_s == NOON
    ahead.start_time.FromSeconds(NOON + 200)
    assert fact_of(ahead, NOON).start_s == NOON + 200
    never = a_record()
    never.start_time.FromSeconds(0)
    assert fact_of(never, NOON).start_s == NOON
    late = a_record()
    late.start_time.FromSeconds(NOON - 86400 * 3)
    assert fact_of(late, NOON).start_s == NOON - 86400 * 3


def test_usage_and_duration_are_taken_over():
    record = a_record(usage={"tokens_in": 3, "rows": 2, "else": 9}, category="EXECUTE", request_bytes=5)
    record.duration.FromMicroseconds(1500)
    fact = fact_of(record, NOON)
    assert (fact.usage, fact.duration_ms, fact.executed, fact.request_bytes) == (Usage(3, 0, 2), 1.5, True, 5)


@pytest.mark.parametrize("priced", ["tenants/system/models/m", "m"])
async def test_what_a_version_of_a_shared_model_used_is_charged_by_the_models_price_to_who_called(
    database: Database, priced: str
):
    record = a_record(
        tenant="acme", method="inference.GRPCInferenceService/ModelInfer", category="EXECUTE",
        resource="tenants/system/models/m/versions/1", usage={"tokens_in": 3000, "rows": 20},
    )  # fmt: skip
    own = a_record(tenant="acme", resource="tenants/acme/models/own/versions/7", usage={"rows": 50})
    prices = Prices(
        {
            priced: Price(tokens_in_1k=0.5, rows_1k=10.0, calls_1k=4.0),
            "tenants/acme/models/own": Price(rows_1k=2.0),
            "1": Price(calls_1k=1000.0),
        }
    )
    counter = Counter(database, prices=prices)
    await counter.count([fact_of(record, NOON), fact_of(own, NOON)])
    answer = await counter.ask("model", "model_version", tenant="acme", order="cost desc")
    found = {series.values: METRICS["cost"].value(series.total) for series in answer.series}
    assert found == {("tenants/system/models/m", "1"): 1.704, ("tenants/acme/models/own", "7"): 0.1}
    assert (await counter.ask(text="model = m AND model_version = 1", tenant="acme")).total.calls == 1


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_whatever_numbers_a_record_has_those_of_its_fact_add_up(number: int, code: int):
    units = ("tokens_in", "tokens_out", "rows", "steps")
    record = a_record(usage=dict.fromkeys(units, number), code=code, request_bytes=number, response_bytes=number)
    record.duration.seconds, record.duration.nanos = number, code
    record.start_time.seconds = number
    fact = fact_of(record, NOON)
    ended = fact_of(a_record(method="tiation.orchestrator.v1.Run/FAILED", usage={"steps": number}), NOON)
    numbers = (*fact.usage, fact.duration_ms, fact.request_bytes, fact.response_bytes, ended.steps)
    assert all(0 <= each <= 2**40 for each in numbers)
    assert fact.usage.rows == min(max(number, 0), 2**40)
    assert fact.code == (code if 0 <= code <= 16 else 2)
    assert 0 < fact.start_s <= NOON + 300


def test_the_end_of_a_run_is_no_call_of_a_method():
    fact = fact_of(
        a_record(
            service="orchestrator", method="tiation.orchestrator.v1.Run/FAILED", code=14, usage={"steps": 4},
            actor="tenants/default/agents/a", resource="tenants/default/agents/a/runs/r",
        ),
        NOON,
    )  # fmt: skip
    assert (fact.run_state, fact.steps) == ("FAILED", 4)
    assert fact.series[:3] == ("", "", "tenants/default/agents/a")


def test_streams_are_known_from_their_contracts():
    assert fact_of(a_record(method="tiation.orchestrator.v1.RunService/StreamRunEvents"), NOON).streamed
    assert fact_of(a_record(method="inference.GRPCInferenceService/ModelStreamInfer"), NOON).streamed
    assert not fact_of(a_record(method="inference.GRPCInferenceService/ModelInfer"), NOON).streamed
