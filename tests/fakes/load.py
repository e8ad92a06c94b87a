"""A steady mixed load through the front door of an installed platform, and what became of every call."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
from google.protobuf import json_format
from tiation.engine.v1 import decision_pb2, decision_pb2_grpc, model_pb2, model_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, run_pb2, run_pb2_grpc
from tiation.security.v1 import role_pb2, role_pb2_grpc

from tests.fakes.installed import EXAMPLE, Installed

__all__ = ["Answer", "Load"]

TENANT = "tenants/default"
AGENT = f"{TENANT}/agents/support-triage"
ROLE = "tenants/system/roles/viewer"
PAUSE_S = 0.2
"""Between two calls of a kind: far below what two cores can do, so that what is measured is no queue."""
Make = Callable[[ExitStack], Callable[[int, str], tuple[str, str]]]
"""Makes a kind's call, of a number and a `traceparent`, which returns its code and the name of what was answered."""
MESSAGES = json.loads((EXAMPLE / "messages.json").read_text())


@dataclass(frozen=True)
class Answer:
    """What became of one call: whose it was, when it began, how long it took, its code, its method and its trace."""

    service: str
    began: float
    took_s: float
    code: str
    method: str
    trace: str

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.began + self.took_s


class Load:
    """Calls of every kind, each from a thread of its own, from entering to leaving.

    Attributes:
        answers: of all calls that have ended.
        runs: the names of acknowledged runs, with the ids that their tickets have.
        roles: the names of acknowledged roles.
    """

    def __init__(self, here: Installed) -> None:
        self.answers: list[Answer] = []
        self.runs: dict[str, str] = {}
        self.roles: list[str] = []
        self._here = here
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._prefix = f"load-{uuid.uuid4().hex[:6]}"
        self._threads = [
            threading.Thread(target=self._repeat, args=(service, method, PAUSE_S * slower, make))
            for service, method, slower, make in self._kinds()
        ]

    def __enter__(self) -> Self:
        for number, thread in enumerate(self._threads):
            thread.start()
            self._stop.wait(PAUSE_S / len(self._threads) if number else 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _kinds(self) -> list[tuple[str, str, int, Make]]:
        """Service, method, how much rarer than the others, and what makes a call of the kind."""
        facts = {"intent": "billing", "score": 0.9, "tier": "free"}
        return [
            ("security", "RoleService/GetRole", 1, self._rpc(
                role_pb2_grpc.RoleServiceStub, "GetRole", lambda _: role_pb2.GetRoleRequest(name=ROLE))),
            ("security", "RoleService/ListRoles", 1, self._http("GET", "/v1/tenants/system/roles")),
            ("security", "RoleService/CreateRole", 3, self._http("POST", f"/v1/{TENANT}/roles", self._role)),
            ("engine", "ModelService/GetModel", 1, self._rpc(
                model_pb2_grpc.ModelServiceStub, "GetModel",
                lambda _: model_pb2.GetModelRequest(name=f"{TENANT}/models/support-intents"))),
            ("engine", "PredictionService/Embed", 1, self._http(
                "POST", "/v1/tenants/system/models/all-minilm-l6-v2:embed", lambda _: ({}, {"texts": ["Where?"]}))),
            ("engine", "DecisionService/Decide", 1, self._rpc(
                decision_pb2_grpc.DecisionServiceStub, "Decide", lambda _: json_format.ParseDict(
                    {"name": f"{TENANT}/decisions/support-routing", "input": facts}, decision_pb2.DecideRequest()))),
            ("orchestrator", "AgentService/GetAgent", 1, self._rpc(
                agent_pb2_grpc.AgentServiceStub, "GetAgent", lambda _: agent_pb2.GetAgentRequest(name=AGENT))),
            ("orchestrator", "AgentService/ListAgents", 1, self._http("GET", f"/v1/{TENANT}/agents")),
            ("orchestrator", "RunService/CreateRun", 3, self._rpc(run_pb2_grpc.RunServiceStub, "CreateRun", self._run)),
            ("integration", "ConnectionService/GetConnection", 1, self._rpc(
                connection_pb2_grpc.ConnectionServiceStub, "GetConnection",
                lambda _: connection_pb2.GetConnectionRequest(name=f"{TENANT}/connections/crm"))),
            ("integration", "ConnectionService/ListConnections", 1, self._http("GET", f"/v1/{TENANT}/connections")),
            ("analytics", "AnalyticsService/ListMetrics", 1, self._http("GET", f"/v1/{TENANT}/metrics")),
            ("analytics", "AnalyticsService/QueryMetrics", 2, self._http(
                "GET", f"/v1/{TENANT}/metrics:query?metrics=calls")),
        ]  # fmt: skip

    def _role(self, number: int) -> tuple[dict[str, str], dict[str, Any]]:
        return {"roleId": f"{self._prefix}-{number}"}, {"permissions": ["engine.models.get"]}

    def _run(self, number: int) -> run_pb2.CreateRunRequest:
        run_id, message = f"{self._prefix}-{number}", MESSAGES[number % len(MESSAGES)]
        run = run_pb2.Run()
        json_format.ParseDict({"id": run_id, "message": message["message"], "tier": message["tier"]}, run.input)
        return run_pb2.CreateRunRequest(parent=AGENT, run_id=run_id, run=run)

    def _rpc(self, stub: Callable[[grpc.Channel], Any], name: str, request: Callable[[int], Any]) -> Make:
        def make(stack: ExitStack) -> Callable[[int, str], tuple[str, str]]:
            method = getattr(stub(stack.enter_context(self._channel())), name)

            def call(number: int, trace: str) -> tuple[str, str]:
                try:
                    answer = method(request(number), metadata=[("traceparent", trace)], timeout=15)
                except grpc.RpcError as error:
                    return error.code().name, ""
                return "OK", getattr(answer, "name", "")

            return call

        return make

    def _channel(self) -> grpc.Channel:
        """As a client that comes back soon when the front door was shut."""
        held = Path(self._here.gateway["token_file"]).read_text().strip()
        root = grpc.ssl_channel_credentials((self._here.home / "ca.pem").read_bytes())
        credentials = grpc.composite_channel_credentials(root, grpc.access_token_call_credentials(held))
        pauses = {"initial": 100, "min": 100, "max": 300}
        options = [(f"grpc.{which}_reconnect_backoff_ms", pause) for which, pause in pauses.items()]
        return grpc.secure_channel(self._here.address, credentials, options=options)

    def _http(self, verb: str, path: str, body: Callable[[int], tuple[dict[str, str], Any]] | None = None) -> Make:
        def make(stack: ExitStack) -> Callable[[int, str], tuple[str, str]]:
            client = stack.enter_context(self._here.rest())

            def call(number: int, trace: str) -> tuple[str, str]:
                given: dict[str, Any] = {"headers": {"traceparent": trace}}
                if body is not None:
                    given["params"], given["json"] = body(number)
                try:
                    answer = client.request(verb, path, **given)
                except httpx.TransportError:
                    return "UNAVAILABLE", ""
                code = {200: "OK", 503: "UNAVAILABLE"}.get(answer.status_code)
                return code or f"{answer.status_code} {answer.text}", answer.json().get("name", "") if code else ""

            return call

        return make

    def _repeat(self, service: str, method: str, pause_s: float, make: Make) -> None:
        try:
            with ExitStack() as stack:
                call = make(stack)
                for number in itertools.count(1):
                    took_s = self._once(service, method, number, call)
                    if self._stop.wait(max(0.0, pause_s - took_s)):
                        return
        except BaseException as error:  # noqa: BLE001 -- raised where the load ends
            self._failed.append(error)

    def _once(self, service: str, method: str, number: int, call: Callable[[int, str], tuple[str, str]]) -> float:
        """One call, noted with what it made; returns how long it took."""
        trace = uuid.uuid4().hex
        began = time.monotonic()
        code, name = call(number, f"00-{trace}-{trace[:16]}-01")
        took_s = time.monotonic() - began
        self.answers.append(Answer(service, began, took_s, code, method, trace))
        if code == "OK" and method.endswith("/CreateRun"):
            self.runs[name] = name.rpartition("/")[2]
        elif code == "OK" and method.endswith("/CreateRole"):
            self.roles.append(name)
        return took_s
