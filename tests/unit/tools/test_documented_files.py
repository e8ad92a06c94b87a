"""Every block of the pages that is a file, or a part of one, is taken as it stands by whatever reads such files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from google.protobuf import json_format
from tiation.engine.v1 import bandit_pb2, decision_pb2, ranking_pb2
from tiation.integration.v1 import connection_pb2, webhook_pb2

from cli.document import open_document
from cli.places import check_names
from engine.decisions.bandits.resource import check_bandit
from engine.decisions.evaluation import Evaluator
from engine.decisions.examples import Example, run_examples
from engine.errors import ManifestError
from engine.manifest import parse_manifest
from engine.servicers.bandit_messages import bandit_of
from integration.manifest import read_config, read_spec
from mesh.config import Settings, load_settings
from mesh.sandbox import SandboxPool
from mesh.sandboxed.recent import Recent
from mesh.strict_yaml import parse_yaml
from orchestrator.flow.check import FlowChecker

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```(yaml|yml|json)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETTINGS = {field.name for field in msgspec.structs.fields(Settings)}
CONFIG = {"base_url": "https://shop.example.com"}
FLOW = "document: {dsl: 1.0.0, namespace: tests, name: documented, version: 1.0.0}\ndo:\n"


def blocks() -> Iterator[object]:
    """Each with its page and line. The examples of flows.md are run by `test_flows_documented`."""
    for page in sorted([*DOCS.glob("*.md"), *(DOCS / "guides").glob("*.md")]):
        if page.name == "flows.md":
            continue
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield pytest.param(*found.groups(), id=f"{page.name}:{line}")


@pytest.fixture
async def sandbox():
    made = SandboxPool()
    yield made
    await made.close()


@pytest.mark.parametrize(("language", "text"), list(blocks()))
async def test_a_file_on_a_page_is_taken_as_it_stands(language: str, text: str, tmp_path: Path, sandbox: SandboxPool):
    file = tmp_path / f"block.{language}"
    file.write_text(text)
    if language == "json":
        await read_json(file, sandbox)
    elif text.startswith("paging: "):  # one line or another of them
        for line in text.splitlines():
            read_spec({"path": "/", **parse_yaml(line.encode())}, "spec")
    elif text.startswith("- "):
        await checked_flow(FLOW + "  " + text.replace("\n", "\n  "), sandbox)
    else:
        await read_yaml(file, parse_yaml(text.encode()), sandbox)


async def read_json(file: Path, sandbox: SandboxPool) -> None:
    """A decision's graph, which answers; or an answer of ours, which need only be JSON."""
    if "nodes" in (found := msgspec.json.decode(file.read_bytes())):
        evaluator = Evaluator(sandbox, "documented", file.read_text(), "default", Recent(1, 1 << 20))
        results = await run_examples([Example("any", {"weight_kg": 80}, {})], evaluator.evaluate)
        assert [result.error for result in results] == [""]
    else:
        assert "error" in found


async def read_yaml(file: Path, found: dict, sandbox: SandboxPool) -> None:
    """Whatever else there is, known by its keys; what nobody here can read fails."""
    keys = set(found)
    if "document" in keys:
        await checked_flow(file.read_text(), sandbox)
    elif "kind" in keys:
        parse_manifest(file.read_bytes(), model=found["name"])
    elif keys <= {"scheduling", "warm_up"}:
        parse_manifest(b"name: documented\nkind: onnx\n" + file.read_bytes(), model="documented")
    elif keys <= {"errors", "limits"}:
        read_config({**CONFIG, **found})
    elif keys <= SETTINGS:
        file.rename(file.with_name("tiation.yaml"))
        load_settings(file.parent, {})
    elif keys != {"scrape_configs"}:
        read_resource(file, keys)


def read_resource(file: Path, keys: set[str]) -> None:
    """What the command takes."""
    if "connector" in keys:
        made = filled(file, connection_pb2.Connection())
        for operation in made.operations if made.connector == "http" else ():
            read_spec(json_format.MessageToDict(operation.spec), "spec")
    elif "agent" in keys:
        filled(file, webhook_pb2.Webhook())
    elif "arms" in keys:
        check_bandit(bandit_of(filled(file, bandit_pb2.Bandit())))
    elif "alternatives" in keys:
        open_document(file).fill(ranking_pb2.RankRequest())
    else:
        assert keys == {"examples"}, f"{keys}: say here what reads it"
        open_document(file).fill(decision_pb2.Decision())


def filled(file: Path, message):
    """A resource as `apply` reads it."""
    check_names(file, message.DESCRIPTOR, also=frozenset({"name"}))
    return open_document(file).fill(message, without="name")


async def checked_flow(text: str, sandbox: SandboxPool) -> None:
    name = yaml.safe_load(text)["document"]["name"]
    await FlowChecker(sandbox).check(text, agent_id=name, tenant="default")


@pytest.mark.parametrize("wrong", ["labels: [{label: a, description: b, c and d}]", "lables: [a]"])
def test_a_manifest_with_a_slip_would_be_noticed(wrong: str):
    with pytest.raises(ManifestError):
        parse_manifest(f"name: m\nkind: zero-shot-classification\nbackbone: b\n{wrong}\n".encode(), model="m")
