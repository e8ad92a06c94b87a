"""The clients in examples/clients, run as their reader runs them. TypeScript's are in test_web.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.installed import CLONE, EXAMPLE, Installed, installed
from tools.models.digits import draw, split

CLIENTS = CLONE / "examples" / "clients"
CACHE = CLONE / ".cache"
PATH = f"{CACHE / 'bin'}:{os.environ['PATH']}"
AGENT = "tenants/default/agents/support-triage"
BUF = next(
    (
        path
        for folder in (CLIENTS / "typescript", CLONE / "tools" / "buf")
        for path in (folder / "node_modules" / "@bufbuild").glob("buf-*/bin/buf")
    ),
    shutil.which("buf"),
)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform with the example deployed."""
    with installed(tmp_path_factory.mktemp("clients") / "home") as made:
        made.deploy_example()
        yield made


def message(number: str) -> str:
    return json.dumps({"id": number, "message": "I was charged twice this month", "tier": "free"})


def call(here: Installed, *command: str, expect: int = 0) -> str:
    """What a client prints; its complaint where it is expected to end badly."""
    environment = {
        **os.environ, "PATH": PATH,
        "TIATION_HOME": str(here.home), "GATEWAY_URL": here.gateway["url"], "GATEWAY_ADDRESS": here.address,
    }  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert ran.returncode == expect, f"{command}\n{ran.stdout}{ran.stderr}"
    return ran.stderr if expect else ran.stdout


def python(here: Installed, *arguments: str, expect: int = 0) -> str:
    script = str(CLIENTS / "python" / "client.py")
    where = ("--home", str(here.home), "--address", here.address)
    return call(here, sys.executable, script, *where, *arguments, expect=expect)


def test_python_lists_the_agents_and_follows_a_run_to_its_output(here: Installed):
    assert python(here) == f"{AGENT}\n"
    said = python(here, "run", "support-triage", message("python-1"))
    lines = said.partition("{")[0].splitlines()
    assert lines[0] == "1 RUN_CREATED "
    assert lines[-1].endswith("RUN_SUCCEEDED ")
    assert json.loads(said[said.index("{") :])["queue"] == "billing"
    assert "python-1" in here.tickets()


def test_python_embeds_and_classifies(here: Installed):
    near = float(python(here, "embed", "How do I reset my password?", "I forgot my password"))
    far = float(python(here, "embed", "How do I reset my password?", "The weather is nice in Lisbon"))
    assert far < 0.3 < near <= 1
    label, score = python(here, "classify", "support-intents", "I was charged twice this month").split()
    assert label == "billing"
    assert 0.5 < float(score) <= 1


def test_python_says_what_is_wrong_in_one_line(here: Installed):
    for arguments, begin in (
        (("classify", "never-was", "some text"), "NOT_FOUND: "),
        (("run", "support-triage", "{id: 1}"), "the input is no JSON: "),
    ):
        said = python(here, *arguments, expect=1)
        assert said.startswith(begin)
        assert len(said.splitlines()) == 1


def test_a_model_is_pushed_from_elsewhere_with_an_api_key_that_may_do_nothing_else(here: Installed, tmp_path: Path):
    here.command("roles", "create", "model-pusher", "--permission", "engine.models.push")
    here.command("principals", "create", "ci")
    key = tmp_path / "ci.key"
    here.command("keys", "create", "ci-key", "--principal", "ci", "--out", str(key))
    ca = tmp_path / "ca.pem"
    ca.write_bytes((here.home / "ca.pem").read_bytes())
    folder = tmp_path / "from-ci"
    shutil.copytree(EXAMPLE / "support-intents", folder)
    manifest = folder / "model.yaml"
    manifest.write_text(manifest.read_text().replace("name: support-intents", "name: from-ci"))
    script = str(CLIENTS / "python" / "push.py")
    where = (str(folder), "--address", here.address, "--ca", str(ca), "--key-file", str(key))
    assert call(here, sys.executable, script, *where, expect=1).startswith("PERMISSION_DENIED: ")
    here.command("bindings", "create", "ci-pushes", "--principal", "ci", "--role", "model-pusher")
    here.command("tenants", "get", "default")  # what a service answers after a change knows of it
    pushed = call(here, sys.executable, script, *where)
    assert pushed == "tenants/default/models/from-ci/versions/1\n"
    assert python(here, "classify", "from-ci", "I was charged twice this month").split()[0] == "billing"
    bad = call(here, sys.executable, script, *where, "--name", "From_CI", expect=1)
    assert "model_id: must be up to 63 lower-case letters, digits and hyphens, begin with a letter" in bad


def test_curl_lists_the_agents_and_follows_a_run_to_its_output(here: Installed):
    script = str(CLIENTS / "curl" / "client.sh")
    assert [agent["name"] for agent in json.loads(call(here, script))["agents"]] == [AGENT]
    said = call(here, script, "support-triage", message("curl-1"))
    events = [json.loads(line[5:]) for line in said.splitlines() if line.startswith("data:")]
    assert events[0]["event"]["type"] == "RUN_CREATED"
    assert events[-1]["event"]["type"] == "RUN_SUCCEEDED"
    assert [event["event"]["sequence"] for event in events] == [str(at) for at in range(1, len(events) + 1)]
    assert json.loads(said.splitlines()[-1])["output"]["queue"] == "billing"


def test_curl_ends_badly_with_the_error_that_came(here: Installed):
    script = str(CLIENTS / "curl" / "client.sh")
    assert "404" in call(here, script, "never-was", "{}", expect=22)


@pytest.mark.skipif(shutil.which("grpcurl", path=PATH) is None, reason="no grpcurl; make setup-test builds it with Go")
def test_grpcurl_lists_the_agents_and_follows_a_run(here: Installed):
    script = str(CLIENTS / "grpcurl" / "client.sh")
    assert json.loads(call(here, script))["agents"][0]["name"] == AGENT
    said = call(here, script, "support-triage", message("grpcurl-1"))
    assert said.index("RUN_CREATED") < said.index("RUN_SUCCEEDED")
    assert "grpcurl-1" in here.tickets()


def test_tritonclient_reads_a_digit_and_compares_two_texts(here: Installed, tmp_path: Path):
    _, _, images, truths = split()
    (tmp_path / "digit.png").write_bytes(draw(images[0], times=16, dark_on_light=True, file="PNG"))
    script = str(CLIENTS / "tritonclient" / "client.py")
    where = ("--home", str(here.home), "--address", here.address)
    texts = ("How do I reset my password?", "I forgot my password")
    lines = call(here, sys.executable, script, *where, str(tmp_path / "digit.png"), *texts).splitlines()
    assert lines[0] == "digits takes image: BYTES [-1]"
    assert "digits gives probabilities: FP32 [-1, 10]" in lines
    assert lines[-2].startswith(f"digit.png is a {truths[0]} (")
    assert 0.3 < float(lines[-1].rsplit(" ", 1)[1]) <= 1


def test_openais_client_lists_models_compares_texts_and_goes_on(here: Installed):
    script = str(CLIENTS / "openai" / "client.py")
    where = ("--home", str(here.home), "--address", here.address)
    lines = call(here, sys.executable, script, *where, "How do I reset my password?", "I forgot my password")
    assert "all-minilm-l6-v2 of system\n" in lines
    assert 0.3 < float(lines.split()[-1]) <= 1
    assert len(call(here, sys.executable, script, *where, "--chat", "docs-writer", "What is engine.max_queue?")) > 10


@pytest.fixture(scope="module")
def go_client() -> str:
    """The Go client, its stubs generated and built, all within the clone."""
    if shutil.which("go") is None or BUF is None or not (CACHE / "bin" / "protoc-gen-go-grpc").exists():
        pytest.skip(
            "Go, its protoc plugins or buf are not here; `make setup-test` installs them where there is Go and npm"
        )
    folder = CLIENTS / "go"
    environment = {
        **os.environ, "GOPATH": str(CACHE / "go"), "GOMODCACHE": str(CACHE / "go/pkg/mod"),
        "GOCACHE": str(CACHE / "go-build"), "GOFLAGS": "-modcacherw -mod=readonly -buildvcs=false",
    }  # fmt: skip
    target = str(CACHE / "bin" / "example-client")
    for command in ([str(BUF), "generate"], ["go", "vet", "."], ["go", "build", "-o", target, "."]):
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    return target


@pytest.mark.timeout(400)
def test_go_lists_the_agents_and_follows_a_run_to_its_output(go_client: str, here: Installed):
    assert call(here, go_client, str(here.home), here.address) == f"{AGENT}\n"
    said = call(here, go_client, str(here.home), here.address, "support-triage", message("go-1"))
    assert said.startswith("1 RUN_CREATED")
    assert json.loads(said[said.index("{") :])["queue"] == "billing"
    refused = call(here, go_client, str(here.home), here.address, "never-was", "{}", expect=1)
    assert "NotFound" in refused
