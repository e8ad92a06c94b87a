"""Calls the platform from Python with the generated stubs: agents, a run followed to its end, vectors, labels.

.venv/bin/python examples/clients/python/client.py                                    lists the agents
.venv/bin/python examples/clients/python/client.py run support-triage '{"id": "1", …}'  starts a run and follows it
.venv/bin/python examples/clients/python/client.py embed "some text" "another one"    how alike two texts are
.venv/bin/python examples/clients/python/client.py classify MODEL "some text"         the label of a text
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import grpc
from google.protobuf import json_format
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc

TENANT = "tenants/default"
MINILM = "tenants/system/models/all-minilm-l6-v2"
TIMEOUT_S = 30


def connect(home: Path, address: str) -> grpc.Channel:
    """Open a channel with the certificate and the token that lie in the platform's home."""
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials((home / "ca.pem").read_bytes()),
        grpc.access_token_call_credentials((home / "token").read_text().strip()),
    )
    return grpc.secure_channel(address, credentials)


def list_agents(channel: grpc.Channel) -> None:
    """Print every agent's name, page by page."""
    agents = agent_pb2_grpc.AgentServiceStub(channel)
    request = agent_pb2.ListAgentsRequest(parent=TENANT, page_size=50)
    while True:
        page = agents.ListAgents(request, timeout=TIMEOUT_S)
        for agent in page.agents:
            print(agent.name)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def run(channel: grpc.Channel, agent: str, given: str) -> None:
    """Start a run, print its events as they come, then its output."""
    runs = run_pb2_grpc.RunServiceStub(channel)
    asked = run_pb2.Run()
    try:
        json_format.ParseDict(json.loads(given), asked.input)
    except ValueError as error:
        sys.exit(f"the input is no JSON: {error}")
    request = run_pb2.CreateRunRequest(parent=f"{TENANT}/agents/{agent}", run=asked)
    created = runs.CreateRun(request, timeout=TIMEOUT_S)
    for answer in runs.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=created.name)):
        event = answer.event
        print(event.sequence, run_pb2.RunEvent.Type.Name(event.type), event.step)
        if event.type == run_pb2.RunEvent.RUN_SUCCEEDED:
            print(json_format.MessageToJson(event.result))
        elif event.type == run_pb2.RunEvent.RUN_FAILED:
            sys.exit(f"{event.error.title}: {event.error.detail}")


def embed(channel: grpc.Channel, one: str, other: str) -> None:
    """Print how alike two texts are, from -1 to 1: the cosine between their vectors."""
    models = prediction_pb2_grpc.PredictionServiceStub(channel)
    request = prediction_pb2.EmbedRequest(name=MINILM, texts=[one, other])
    first, second = (each.values for each in models.Embed(request, timeout=TIMEOUT_S).embeddings)
    product = sum(a * b for a, b in zip(first, second, strict=True))
    print(f"{product / math.hypot(*first) / math.hypot(*second):.3f}")


def classify(channel: grpc.Channel, model: str, text: str) -> None:
    """Print the label that a model gives a text, and how sure it is."""
    models = prediction_pb2_grpc.PredictionServiceStub(channel)
    request = prediction_pb2.ClassifyRequest(name=f"{TENANT}/models/{model}", texts=[text])
    found = models.Classify(request, timeout=TIMEOUT_S).classifications[0]
    print(f"{found.label} {found.score:.2f}")


def main() -> None:
    """Do what the command line says; an error of the platform is one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".tiation"), help="the platform's state folder")
    parser.add_argument("--address", default="127.0.0.1:8443", help="the gateway's host and port")
    parser.set_defaults(call=list_agents, given=())
    commands = parser.add_subparsers(metavar="COMMAND")
    for call, given in ((run, ("agent", "input")), (embed, ("one", "other")), (classify, ("model", "text"))):
        command = commands.add_parser(call.__name__, help=call.__doc__)
        for name in given:
            command.add_argument(name)
        command.set_defaults(call=call, given=given)
    options = parser.parse_args()
    with connect(options.home, options.address) as channel:
        try:
            options.call(channel, *(getattr(options, name) for name in options.given))
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
