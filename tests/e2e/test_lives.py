"""Each resource's full life, once as REST and once as gRPC: the answers agree but for uid, times and etag."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from tiation.engine.v1 import decision_pb2, decision_pb2_grpc, model_pb2, model_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc, revision_pb2, revision_pb2_grpc, run_pb2, run_pb2_grpc
from tiation.security.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    binding_pb2,
    binding_pb2_grpc,
    group_pb2,
    group_pb2_grpc,
    principal_pb2,
    principal_pb2_grpc,
    record_pb2,
    record_pb2_grpc,
    role_pb2,
    role_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
)

from tests.fakes.installed import EXAMPLE, Installed

VOLATILE = {
    "eventTime",
    "durationMs",
    "uid",
    "etag",
    "createTime",
    "updateTime",
    "startTime",
    "endTime",
    "keyString",
    "nextPageToken",
}
FLOW = """
document: {dsl: 1.0.0, namespace: tests, name: %s, version: 1.0.0}
do:
  - answer:
      set: {answer: 42}
"""


def steady(value: Any) -> Any:
    """An answer without what may differ between two lives."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


class Life:
    """One resource: where it lives, what it is made of, how it changes.

    Attributes:
        kind: the resource in the singular, as the proto's package names it: `agent`.
        collection: the part of the path before its id.
        body: what to create.
        change: what to change; empty where the resource cannot be.
        verbs: custom verbs to call in between.
    """

    def __init__(self, module, grpc_module, kind, collection, body, change, verbs=(), parent="tenants/default"):
        self.module, self.grpc_module = module, grpc_module
        self.kind, self.collection, self.body, self.change = kind, collection, body, change
        self.verbs, self.parent = verbs, parent

    @property
    def type(self) -> str:
        """The message's name."""
        return "".join(part.capitalize() for part in self.kind.split("_"))

    @property
    def plural(self) -> str:
        """The name of a list's field in JSON."""
        return self.collection or "tenants"

    def name(self, entry_id: str) -> str:
        """The full name of one of them."""
        return "/".join(part for part in (self.parent, self.collection, entry_id) if part)


LIVES = {
    "tenant": Life(
        tenant_pb2, tenant_pb2_grpc, "tenant", "", {"displayName": "One"}, {"displayName": "Two"}, parent="tenants"
    ),
    "principal": Life(
        principal_pb2, principal_pb2_grpc, "principal", "principals", {"displayName": "One", "kind": "PERSON"},
        {"displayName": "Two"},
    ),
    "api_key": Life(
        api_key_pb2, api_key_pb2_grpc, "api_key", "apiKeys", {"principal": "tenants/default/principals/holder"},
        {"displayName": "Two"},
    ),
    "binding": Life(
        binding_pb2, binding_pb2_grpc, "binding", "bindings",
        {
            "principal": "tenants/default/principals/holder", "role": "tenants/system/roles/viewer",
            "condition": {"timeWindows": [{"days": ["MONDAY"], "start": "08:00", "end": "17:30"}]},
        },
        {"expireTime": "2100-01-01T00:00:00Z"},
    ),
    "group": Life(
        group_pb2, group_pb2_grpc, "group", "groups", {"members": ["tenants/default/principals/holder"]},
        {"displayName": "Two"},
    ),
    "role": Life(
        role_pb2, role_pb2_grpc, "role", "roles", {"title": "One", "permissions": ["engine.*.get"]},
        {"title": "Two", "permissions": ["engine.models.get"]},
    ),
    "decision": Life(
        decision_pb2, decision_pb2_grpc, "decision", "decisions",
        {"graph": (EXAMPLE / "support-routing.json").read_text()}, {"labels": {"team": "two"}},
    ),
    "connection": Life(
        connection_pb2, connection_pb2_grpc, "connection", "connections",
        {key: value for key, value in yaml.safe_load((EXAMPLE / "crm.yaml").read_text()).items() if key != "name"},
        {"labels": {"team": "two"}},
    ),
    "agent": Life(
        agent_pb2, agent_pb2_grpc, "agent", "agents", {"flow": FLOW}, {"displayName": "Two"}, ("pause", "resume"),
    ),
}  # fmt: skip


def body_for(life: Life, entry_id: str) -> dict[str, Any]:
    """What to create under that id."""
    return {key: value % entry_id if key == "flow" else value for key, value in life.body.items()}


def live_by_rest(here: Installed, life: Life, entry_id: str) -> list[Any]:
    """The life over REST; every answer in order."""
    answers = []
    collection = "/v1/" + "/".join(part for part in (life.parent, life.collection) if part)
    name = f"/v1/{life.name(entry_id)}"
    tenant = "system" if life.kind == "tenant" else "default"
    with here.rest(here.token(tenant=tenant)) as client:

        def call(method: str, path: str, **arguments: Any) -> Any:
            answer = client.request(method, path, **arguments)
            assert answer.status_code == 200, (method, path, answer.status_code, answer.text)
            answers.append(steady(answer.json()))
            return answer.json()

        made = call("POST", collection, params={f"{life.kind}_id": entry_id}, json=body_for(life, entry_id))
        call("GET", name)
        call("GET", collection, params={"page_size": 1000})
        if life.change:
            call(
                "PATCH",
                name,
                json={**life.change, "etag": made["etag"]},
                params={"update_mask": ",".join(map(_snake, life.change))},
            )
        for verb in life.verbs:
            call("POST", f"{name}:{verb}", json={})
        call("DELETE", name)
        assert client.get(name).status_code in (403, 404)
    return answers


def live_by_grpc(here: Installed, life: Life, entry_id: str) -> list[Any]:
    """The same life over gRPC; every answer as its JSON."""
    answers = []
    pb, type_ = life.module, life.type
    tenant = "system" if life.kind == "tenant" else "default"
    with here.channel(here.token(tenant=tenant)) as channel:
        stub = getattr(life.grpc_module, f"{type_}ServiceStub")(channel)

        def call(method: str, **fields: Any) -> Any:
            answer = getattr(stub, method)(getattr(pb, f"{method}Request")(**fields), timeout=20)
            answers.append(steady(json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)))
            return answer

        parent = {} if life.kind == "tenant" else {"parent": life.parent}
        message = json_format.ParseDict(body_for(life, entry_id), getattr(pb, type_)())
        made = call(f"Create{type_}", **parent, **{f"{life.kind}_id": entry_id, life.kind: message})
        call(f"Get{type_}", name=made.name)
        call(f"List{type_}s", **parent, page_size=1000)
        if life.change:
            changed = json_format.ParseDict({**life.change, "name": made.name, "etag": made.etag}, getattr(pb, type_)())
            mask = {"paths": [_snake(field) for field in life.change]}
            call(f"Update{type_}", **{life.kind: changed, "update_mask": mask})
        for verb in life.verbs:
            call(f"{verb.capitalize()}{type_}", name=made.name)
        call(f"Delete{type_}", name=made.name)
    return answers


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


@pytest.fixture(scope="module")
def here(home_of_all: Installed) -> Installed:
    """The shared platform with a principal that keys and bindings may name."""
    with home_of_all.rest() as client:
        made = client.post("/v1/tenants/default/principals", params={"principal_id": "holder"}, json={})
        assert made.status_code == 200, made.text
    home_of_all.crm.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home_of_all


@pytest.mark.parametrize("kind", LIVES)
def test_a_resource_lives_alike_over_rest_and_grpc(here: Installed, kind: str):
    life = LIVES[kind]
    run: Callable[[Installed, Life, str], list[Any]]
    lives = []
    for protocol, run in (("rest", live_by_rest), ("grpc", live_by_grpc)):
        entry_id = f"life-{protocol}"
        text = json.dumps(run(here, life, entry_id)).replace(entry_id, "life-x")
        lives.append(json.loads(text))
    rest, grpc = lives
    assert rest == grpc
    assert len(rest) == 4 + bool(life.change) + len(life.verbs)


@pytest.fixture(scope="module")
def answerer(here: Installed, tmp_path_factory) -> str:
    """An agent to run; its name."""
    flow = tmp_path_factory.mktemp("flow") / "agent.yaml"
    flow.write_text(FLOW % "answerer")
    here.command("agents", "apply", str(flow))
    return "tenants/default/agents/answerer"


def test_a_run_lives_alike_over_rest_and_grpc(here: Installed, answerer: str):
    with here.rest() as client:
        made = client.post(f"/v1/{answerer}/runs", params={"run_id": "by-rest"}, json={"input": {"a": [1, None]}})
        assert made.status_code == 200, made.text
        with client.stream("GET", f"/v1/{answerer}/runs/by-rest:streamEvents") as stream:
            streamed = [json.loads(line[5:])["event"] for line in stream.iter_lines() if line.startswith("data:")]
        got = client.get(f"/v1/{answerer}/runs/by-rest").json()
        cancelled = client.post(f"/v1/{answerer}/runs/by-rest:cancel", json={}).json()
        listed = client.get(f"/v1/{answerer}/runs").json()["runs"]
    rest = steady([got, cancelled, [run for run in listed if run["name"].endswith("by-rest")], streamed])
    with here.channel() as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        run = json_format.ParseDict({"input": {"a": [1, None]}}, run_pb2.Run())
        name = stub.CreateRun(run_pb2.CreateRunRequest(parent=answerer, run_id="by-grpc", run=run)).name
        events = [answer.event for answer in stub.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=name))]
        found = [
            stub.GetRun(run_pb2.GetRunRequest(name=name)),
            stub.CancelRun(run_pb2.CancelRunRequest(name=name)),
            [each for each in stub.ListRuns(run_pb2.ListRunsRequest(parent=answerer)).runs if each.name == name],
            events,
        ]
    grpc = steady(json.loads(json.dumps(found, default=_as_json)))
    assert json.loads(json.dumps(rest).replace("by-rest", "x")) == json.loads(json.dumps(grpc).replace("by-grpc", "x"))
    assert rest[0]["state"] == "SUCCEEDED"


def _as_json(message: Any) -> Any:
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


READ_ONLY = {
    "role": (role_pb2_grpc.RoleServiceStub, "GetRole", role_pb2.GetRoleRequest, "tenants/system/roles/viewer"),
    "roles": (role_pb2_grpc.RoleServiceStub, "ListRoles", role_pb2.ListRolesRequest, "tenants/system/roles"),
    "model": (
        model_pb2_grpc.ModelServiceStub, "GetModel", model_pb2.GetModelRequest,
        "tenants/system/models/all-minilm-l6-v2",
    ),
    "models": (model_pb2_grpc.ModelServiceStub, "ListModels", model_pb2.ListModelsRequest, "tenants/system/models"),
    "version": (
        model_pb2_grpc.ModelServiceStub, "GetModelVersion", model_pb2.GetModelVersionRequest,
        "tenants/system/models/all-minilm-l6-v2/versions/1",
    ),
    "versions": (
        model_pb2_grpc.ModelServiceStub, "ListModelVersions", model_pb2.ListModelVersionsRequest,
        "tenants/system/models/all-minilm-l6-v2/versions",
    ),
    "revision": (
        revision_pb2_grpc.RevisionServiceStub, "GetRevision", revision_pb2.GetRevisionRequest,
        "tenants/default/agents/answerer/revisions/r1",
    ),
    "revisions": (
        revision_pb2_grpc.RevisionServiceStub, "ListRevisions", revision_pb2.ListRevisionsRequest,
        "tenants/default/agents/answerer/revisions",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("answerer")
@pytest.mark.parametrize("kind", READ_ONLY)
def test_what_is_only_read_reads_alike_over_rest_and_grpc(here: Installed, kind: str):
    stub, method, request, path = READ_ONLY[kind]
    asked = request(parent=path.rsplit("/", 1)[0]) if method.startswith("List") else request(name=path)
    with here.channel() as channel:
        by_grpc = _as_json(getattr(stub(channel), method)(asked))
    with here.rest() as client:
        by_rest = client.get(f"/v1/{path}").json()
    assert by_rest == by_grpc


def test_a_record_reads_alike_over_rest_and_grpc(here: Installed):
    with here.rest() as client:
        deadline = time.monotonic() + 10
        while not (records := client.get("/v1/tenants/default/records", params={"page_size": 5}).json()["records"]):
            assert time.monotonic() < deadline
        by_rest = client.get(f"/v1/{records[0]['name']}").json()
    with here.channel() as channel:
        stub = record_pb2_grpc.RecordServiceStub(channel)
        by_grpc = _as_json(stub.GetRecord(record_pb2.GetRecordRequest(name=records[0]["name"])))
    assert by_rest == by_grpc == records[0]


def test_the_command_follows_a_run_and_rest_streams_it(here: Installed, answerer: str):
    shown = [here.json("run", answerer, "--input", "{}", "--follow") for _ in range(2)]
    assert all("42" in json.dumps(answer) for answer in shown)
    with here.rest() as client:
        runs = client.get("/v1/tenants/default/agents/answerer/runs").json()["runs"]
        runs = [run for run in runs if not run["name"].rsplit("/", 1)[1].startswith("by-")]
        assert [run["state"] for run in runs] == ["SUCCEEDED", "SUCCEEDED"]
        assert [run["output"] for run in runs] == [{"answer": 42.0}, {"answer": 42.0}]
        with client.stream("GET", f"/v1/{runs[0]['name']}:streamEvents") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            events = [
                json.loads(line.removeprefix("data:")) for line in stream.iter_lines() if line.startswith("data:")
            ]
        assert [event["event"]["sequence"] for event in events] == [str(n + 1) for n in range(len(events))]
        assert events[-1]["event"]["type"] == "RUN_SUCCEEDED"
        half = client.get(f"/v1/{runs[0]['name']}:streamEvents", params={"after_sequence": len(events) - 1}).text
        assert half.count("data:") == 1
