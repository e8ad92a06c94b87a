"""JSON that callers send as `google.protobuf.Value`: whole numbers stay whole, what JSON does not know is refused."""

from __future__ import annotations

import math

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from tiation.engine.v1 import decision_pb2, decision_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

from tests.fakes.answers import refused
from tests.fakes.platform import Platform, platform

NUMBERS = [math.nan, math.inf, -math.inf]
FLOW = """
document: {dsl: 1.0.0, namespace: tests, name: numbers, version: 1.0.0}
do:
  - say:
      set: '${ {said: "T-\\(.id)", half: (.id / 2), id: .id} }'
"""
GRAPH = """{"nodes": [
  {"id": "i", "type": "inputNode", "name": "i"},
  {"id": "x", "type": "expressionNode", "name": "x", "content": {"expressions": [
    {"id": "e", "key": "said", "value": "'T-' + string(id)"}, {"id": "f", "key": "more", "value": "id + 1"}]}},
  {"id": "o", "type": "outputNode", "name": "o"}],
 "edges": [{"id": "1", "sourceId": "i", "targetId": "x", "type": "edge"},
           {"id": "2", "sourceId": "x", "targetId": "o", "type": "edge"}]}"""


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_number_that_json_does_not_know_is_one_invalid_argument(tmp_path, number):
    async with platform(tmp_path, ("security", "engine", "integration", "orchestrator")) as here:
        metadata = [await here.token()]
        async with (
            here.channel("engine") as engine,
            here.channel("integration") as integration,
            here.channel("orchestrator") as orchestrator,
        ):
            decisions = decision_pb2_grpc.DecisionServiceStub(engine)
            connections = connection_pb2_grpc.ConnectionServiceStub(integration)
            await made(here, decisions, orchestrator, metadata)
            decide = decision_pb2.DecideRequest(name="tenants/default/decisions/numbers")
            decide.input.fields["a"].list_value.values.append(Value(number_value=number))
            invoke = connection_pb2.InvokeRequest(name="tenants/default/connections/crm", operation_id="x")
            invoke.input.number_value = number
            create = connection_pb2.CreateConnectionRequest(parent="tenants/default", connection_id="bad")
            create.connection.connector = "sql"
            create.connection.config.fields["url"].number_value = number
            run = run_pb2.CreateRunRequest(parent="tenants/default/agents/numbers")
            run.run.input.struct_value.fields["id"].number_value = number
            for call, place in (
                (decisions.Decide(decide, metadata=metadata), "input.a[0]"),
                (connections.Invoke(invoke, metadata=metadata), "input"),
                (connections.CreateConnection(create, metadata=metadata), "connection.config.url"),
                (run_pb2_grpc.RunServiceStub(orchestrator).CreateRun(run, metadata=metadata), "run.input.id"),
            ):
                error = await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
                assert error.details().startswith(f"{place}: ")
                assert "no number that JSON knows" in error.details()


async def made(here: Platform, decisions, orchestrator, metadata) -> None:
    """A decision, an agent and a connection of the name that the requests use."""
    await decisions.CreateDecision(
        decision_pb2.CreateDecisionRequest(
            parent="tenants/default", decision_id="numbers", decision=decision_pb2.Decision(graph=GRAPH)
        ),
        metadata=metadata,
    )
    await agent_pb2_grpc.AgentServiceStub(orchestrator).CreateAgent(
        agent_pb2.CreateAgentRequest(parent="tenants/default", agent_id="numbers", agent=agent_pb2.Agent(flow=FLOW)),
        metadata=metadata,
    )
    connection = connection_pb2.Connection(connector="sql")
    connection.config["url"] = "sqlite:///crm.db"
    async with here.channel("integration") as channel:
        await connection_pb2_grpc.ConnectionServiceStub(channel).CreateConnection(
            connection_pb2.CreateConnectionRequest(
                parent="tenants/default", connection_id="crm", connection=connection
            ),
            metadata=metadata,
        )


async def test_whole_numbers_are_whole_in_flows_and_decisions(tmp_path):
    async with platform(tmp_path, ("security", "engine", "integration", "orchestrator")) as here:
        metadata = [await here.token()]
        async with here.channel("engine") as engine, here.channel("orchestrator") as orchestrator:
            decisions = decision_pb2_grpc.DecisionServiceStub(engine)
            await made(here, decisions, orchestrator, metadata)
            decide = decision_pb2.DecideRequest(name="tenants/default/decisions/numbers")
            decide.input["id"] = 7
            answer = await decisions.Decide(decide, metadata=metadata)
            assert dict(answer.result) == {"said": "T-7", "more": 8}
            runs = run_pb2_grpc.RunServiceStub(orchestrator)
            run = run_pb2.CreateRunRequest(parent="tenants/default/agents/numbers")
            run.run.input.struct_value["id"] = 7
            begun = await runs.CreateRun(run, metadata=metadata)
            async for event in runs.StreamRunEvents(
                run_pb2.StreamRunEventsRequest(name=begun.name), metadata=metadata, timeout=30
            ):
                last = event.event
            assert dict(last.result.struct_value) == {"said": "T-7", "half": 3.5, "id": 7}
