"""Files that the command is given: what is wrong is said with line, value and rule, in the words of the file."""

from __future__ import annotations

import pytest
from tiation.integration.v1 import connection_pb2 as pb

from cli.client import FileError
from cli.document import open_document

HEAD = "name: crm\nconnector: sql\n"


def refused(tmp_path, text: str) -> str:
    """What is said of a connection's file."""
    file = tmp_path / "crm.yaml"
    file.write_text(text)
    with pytest.raises(FileError) as caught:
        document = open_document(file)
        document.id_at("name", what="connection")
        document.fill(pb.Connection(), without="name")
    assert caught.value.message.startswith(f"{file}: ")
    said = caught.value.message.removeprefix(f"{file}: ")
    assert "tiation.integration" not in said
    assert "unicode string" not in said
    return said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: crm\nconector: sql\n", "line 2: there is no `conector` here; did you mean `connector`?"),
        (HEAD + "operations:\n  - operationId: a\n    efect: NONE\n", "line 5: there is no `efect` here; did you mean"),
        (HEAD + "colour: blue\n", "line 3: there is no `colour` here; known are config, connector"),
        (HEAD + "operations:\n  - effect: NOPE\n", "line 4: `effect` is `NOPE`; it must be one of NONE, IDEMPOTENT"),
        (HEAD + "operations:\n  - timeout: 5\n", "line 4: `timeout` is `5`; it must be seconds with an s"),
        (HEAD + "operations: {a: 1}\n", "line 3: `operations` must be a list"),
        (HEAD + "operations: [a]\n", "line 3: `operations` must hold `name: value` lines"),
        (HEAD + "labels:\n  team: 7\n", "line 4: `labels` is `7`; it must be text; put it into quotes"),
        (HEAD + "retry:\n  maxAttempts: many\n", "line 4: `maxAttempts` is `many`; it must be a whole number"),
        (HEAD + "config: [1]\n", "line 3: `config` is `[1]`; it must hold `name: value` lines"),
        ("name: crm\nconnector: 7\n", "line 2: `connector` is `7`; it must be text; put it into quotes"),
        ("connector: sql\nname: 3\n", "line 2: name is `3`; it must be text; put it into quotes"),
        ("name: CRM one\n", "line 1: name is `CRM one`; an id has up to 63 lower-case letters"),
        ("connector: sql\n", "name is missing; it becomes the connection's id"),
        ("name: ''\n", "name is missing; it becomes the connection's id"),
        ('name: crm\nconnector: "\\ud800"\n', "holds half of a surrogate pair"),
        ("name: crm\n  connector: sql\n", "neither YAML nor JSON: line 2: mapping values are not allowed here"),
        ("name: crm\na: [" * 2000, "neither YAML nor JSON: line "),
        ("[" * 5000, "neither YAML nor JSON: "),
        ("- a\n", "must hold `name: value` lines"),
        ("name: crm\nname: crm\n", "neither YAML nor JSON: line 2: `name` is there twice"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(tmp_path, text, said):
    assert refused(tmp_path, text).startswith(said)


def test_what_fits_is_read(tmp_path):
    file = tmp_path / "crm.yaml"
    file.write_text(
        HEAD
        + "config: {url: 'sqlite:///crm.db', n: 3}\nlabels: {team: a}\nretry: {max_attempts: 2, maxBackoff: 2.5s}\n"
        "operations:\n  - operationId: a\n    effect: NONE\n    spec: {statement: SELECT 1}\n    timeout: 5s\n"
    )
    made = open_document(file).fill(pb.Connection(), without="name")
    assert (made.connector, made.config["url"], dict(made.labels)) == ("sql", "sqlite:///crm.db", {"team": "a"})
    assert (made.retry.max_attempts, made.operations[0].timeout.seconds) == (2, 5)


def test_an_agents_name_that_is_no_id_is_said_with_its_line(tiation, door, tmp_path):
    file = tmp_path / "agent.yaml"
    file.write_text("document:\n  dsl: 1.0.0\n  name: Support Triage\n")
    said = tiation("agents", "apply", str(file), "--home", str(door.home.path))
    assert said.code == 1
    assert said.err.startswith(f"tiation: {file}: line 3: document.name is `Support Triage`; an id has up to 63")
