"""Apply: create what is missing, update what differs, leave alone what is the same, lose nobody's change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiation.integration.v1 import connection_pb2 as pb
from tiation.security.v1 import tenant_pb2

from cli.apply import bring
from cli.client import FileError
from cli.document import open_document

FLOW = "document: {dsl: 1.0.0, namespace: tests, name: %s, version: 1.0.0}\ndo: []\n"
NAME = "tenants/default/agents/triage"


@pytest.fixture
def file(tmp_path) -> Path:
    """An agent's file."""
    made = tmp_path / "agent.yaml"
    made.write_text(FLOW % "triage")
    return made


def apply(tiation, door, file: Path, *more: str):
    return tiation("agents", "apply", str(file), "--home", str(door.home.path), *more)


def kinds(door) -> list[str]:
    """What was asked, in order."""
    return [kind for kind, _, _ in door.asked]


def test_what_is_missing_is_created(tiation, door, file):
    said = apply(tiation, door, file)
    assert (said.code, said.out) == (0, f"{NAME} created\n")
    assert door.agents[NAME].flow == FLOW % "triage"


def test_what_is_the_same_is_left_alone(tiation, door, file):
    apply(tiation, door, file)
    door.asked.clear()
    said = apply(tiation, door, file)
    assert (said.code, said.out) == (0, f"{NAME} unchanged\n")
    assert kinds(door) == ["GetAgentRequest"]


def test_what_differs_is_updated_with_the_etag_that_was_read(tiation, door, file):
    apply(tiation, door, file)
    file.write_text(FLOW % "triage" + "# more\n")
    said = apply(tiation, door, file)
    assert (said.code, said.out) == (0, f"{NAME} updated\n")
    sent = door.asked[-1][2]
    assert (sent.agent.etag, list(sent.update_mask.paths)) == ("etag-1", ["flow"])


def test_a_change_that_somebody_else_made_meanwhile_is_not_overwritten(tiation, door, file):
    apply(tiation, door, file)
    file.write_text(FLOW % "triage" + "# mine\n")
    door.meanwhile = lambda agent: agent.MergeFrom(type(agent)(etag="etag-2", flow="theirs"))
    said = apply(tiation, door, file)
    assert said.code == 1
    assert "somebody was faster [ETAG_STALE]" in said.err
    assert door.agents[NAME].flow == "theirs"


def test_with_json_standard_output_is_the_resource_alone(tiation, door, file):
    said = apply(tiation, door, file, "--output", "json")
    assert json.loads(said.out)["name"] == NAME
    assert said.err == f"{NAME} created\n"


def test_a_refusal_says_every_violation_and_its_reason(tiation, door, file):
    file.write_text(FLOW % "triage" + "# broken\n")
    said = apply(tiation, door, file)
    assert said.code == 1
    assert said.out == ""
    assert said.err.splitlines() == [
        "tiation: two things are wrong with the flow [FLOW_INVALID]",
        "  flow.do: has no steps",
        "  flow.document.dsl: is unknown",
    ]


def test_another_tenants_agent_is_applied_with_a_token_of_that_tenant(tiation, door, file):
    said = apply(tiation, door, file, "--tenant", "acme")
    assert (said.code, said.out) == (0, "tenants/acme/agents/triage created\n")
    assert kinds(door) == ["ExchangeApiKeyRequest", "GetAgentRequest", "CreateAgentRequest"]
    assert door.asked[0][2].api_key == "operator-key"
    assert {token for _, token, _ in door.asked[1:]} == {"Bearer exchanged-for-tenants/acme"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[1, 2]", "must hold `name: value` lines"),
        (b"a: [", "neither YAML nor JSON"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b"do: []", "document.name is missing"),
    ],
)
def test_a_file_that_is_no_agent_is_refused_before_anything_is_asked(tiation, door, tmp_path, content, complaint):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    said = apply(tiation, door, file)
    assert said.code == 1
    assert complaint in said.err
    assert str(file) in said.err
    assert door.asked == []


def test_a_document_that_is_json_is_read(tmp_path):
    file = tmp_path / "one.json"
    file.write_text('{"name": "crm"}')
    assert open_document(file).values == {"name": "crm"}


def test_a_missing_document_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        open_document(tmp_path / "none.yaml")


FIELDS = ("config", "retry", "labels")


class Connections:
    """A connection that a service keeps, filling in what is left out."""

    def __init__(self, **fields: object) -> None:
        self.kept = self.filled(pb.Connection(etag="etag-1", **fields))
        self.previewed: list[list[str]] = []
        self.updated: list[list[str]] = []

    @staticmethod
    def filled(connection: pb.Connection) -> pb.Connection:
        if not connection.HasField("retry"):
            connection.retry.max_attempts = 3
        return connection

    def bring(self, wanted: pb.Connection) -> str:
        def changed(paths: list[str]) -> pb.Connection:
            made = pb.Connection()
            made.CopyFrom(self.kept)
            for path in paths:
                made.ClearField(path)
                sent = pb.Connection()
                sent.CopyFrom(wanted)
                for other in [field.name for field, _ in sent.ListFields() if field.name != path]:
                    sent.ClearField(other)
                made.MergeFrom(sent)
            return self.filled(made)

        def preview(paths: list[str]) -> pb.Connection:
            self.previewed.append(paths)
            return changed(paths)

        def update(paths: list[str]) -> pb.Connection:
            self.updated.append(paths)
            self.kept = changed(paths)
            return self.kept

        return bring(
            wanted, FIELDS, get=lambda: self.kept, create=pb.Connection, update=update, preview=preview,
            secret=["credentials"],
        )[1]  # fmt: skip


def test_what_the_service_filled_in_is_no_difference():
    here = Connections(labels={"a": "1"})
    assert here.bring(pb.Connection(labels={"a": "1"})) == "unchanged"
    assert here.updated == []


def test_what_was_removed_from_the_file_is_removed():
    here = Connections(labels={"a": "1"}, retry={"max_attempts": 7})
    assert here.bring(pb.Connection()) == "updated"
    assert here.updated == [["retry", "labels"]]
    assert (here.kept.retry.max_attempts, dict(here.kept.labels)) == (3, {})


def test_credentials_are_sent_whenever_the_file_has_them():
    here = Connections()
    assert here.bring(pb.Connection(credentials={"password": "x"})) == "updated"
    assert here.updated == [["credentials"]]


@pytest.mark.parametrize(
    ("kept", "wanted", "what"),
    [
        ({}, {"limits": {}}, "updated"),
        ({"limits": {}}, {}, "updated"),
        ({"limits": {}}, {"limits": {}}, "unchanged"),
        ({}, {}, "unchanged"),
    ],
)
def test_a_field_that_is_there_and_empty_differs_from_one_that_is_absent(kept, wanted, what):
    """A tenant whose limits are empty has none; one that says nothing has those of the settings."""
    there, asked = tenant_pb2.Tenant(**kept), tenant_pb2.Tenant(**wanted)
    found = bring(asked, ["limits"], get=lambda: there, create=tenant_pb2.Tenant, update=lambda paths: asked)
    assert found[1] == what


def test_an_unreadable_file_error_names_the_file(tmp_path):
    (tmp_path / "x.yaml").write_text("- a")
    with pytest.raises(FileError, match=r"x\.yaml"):
        open_document(tmp_path / "x.yaml")
