"""`call: http` and `call: grpc` over the wire: what reaches integration, for whom, under which key."""

from __future__ import annotations

import grpc.aio
from google.protobuf import json_format
from tiation.integration.v1 import fetch_pb2 as pb
from tiation.integration.v1 import fetch_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

from mesh.channel import ASSERTION_HEADER
from tests.fakes.answers import within
from tests.fakes.platform import platform

FLOW = """
document: {dsl: 1.0.0, name: fetcher}
do:
  - look: {call: http, with: {method: GET, endpoint: "https://a.example/{id}"}}
  - write: {call: http, with: {method: POST, endpoint: "https://a.example", body: {seen: "${ .n }"}}}
  - greet: {call: grpc, with: {service: {name: a.B, host: b.example}, method: M, arguments: {n: "${ .n }"}}}
"""


class Integration(fetch_pb2_grpc.FetchServiceServicer):
    """Answers fetches and remembers them."""

    def __init__(self):
        self.asked = []

    async def Fetch(self, request, context):
        self.asked.append((request, dict(context.invocation_metadata())))
        return json_format.ParseDict({"status": 200, "body": {"n": len(self.asked)}}, pb.FetchResponse())

    async def CallGrpc(self, request, context):
        self.asked.append((request, dict(context.invocation_metadata())))
        return json_format.ParseDict({"result": {"n": 9}}, pb.CallGrpcResponse())


async def test_fetches_reach_integration_on_the_requesters_behalf(tmp_path):
    async with platform(tmp_path, ("security", "orchestrator")) as made, made.channel("orchestrator") as channel:
        svid = made.lay_svid("integration")
        credentials = grpc.ssl_server_credentials(
            [(svid["private_key"].encode(), svid["certificate_chain"].encode())],
            svid["trust_bundle"].encode(),
            require_client_auth=True,
        )
        server, own = grpc.aio.server(), Integration()
        fetch_pb2_grpc.add_FetchServiceServicer_to_server(own, server)
        server.add_secure_port(made.address("integration"), credentials)
        await server.start()
        try:
            authorization = await made.token()
            agent = agent_pb2.CreateAgentRequest(
                parent="tenants/default", agent_id="fetcher", agent=agent_pb2.Agent(flow=FLOW)
            )
            agents = agent_pb2_grpc.AgentServiceStub(channel)
            await within(10, lambda: agents.CreateAgent(agent, metadata=[authorization]))
            runs = run_pb2_grpc.RunServiceStub(channel)
            run = json_format.ParseDict({"input": {"id": "x y"}}, run_pb2.Run())
            request = run_pb2.CreateRunRequest(parent="tenants/default/agents/fetcher", run_id="r", run=run)
            name = (await runs.CreateRun(request, metadata=[authorization])).name
            async for _ in runs.StreamRunEvents(
                run_pb2.StreamRunEventsRequest(name=name), metadata=[authorization], timeout=30
            ):
                pass
            ended = await runs.GetRun(run_pb2.GetRunRequest(name=name), metadata=[authorization])
        finally:
            await server.stop(0)
    assert ended.state == run_pb2.Run.SUCCEEDED, ended.error
    assert json_format.MessageToDict(ended.output) == {"n": 9}
    (look, _), (write, metadata), (greet, _) = own.asked
    assert (look.uri, look.parent, look.effect_key) == ("https://a.example/x%20y", "tenants/default", "")
    assert json_format.MessageToDict(write.body) == {"seen": 1}
    assert write.effect_key == f"{name}/do/1/write#1/effect"
    assert (greet.target, greet.effect_key) == ("b.example:443", f"{name}/do/2/greet#1/effect")
    assert metadata[ASSERTION_HEADER]
