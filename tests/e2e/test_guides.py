"""The guides, done as they are written: every block in its order, in a folder of the reader's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.fakes.installed import CLONE, Installed

BLOCK = re.compile(r"^```(python|sh|yaml|json)\n(.*?)^```", re.DOTALL | re.MULTILINE)
"""What is shown as `yml` or `shell` stands for a model of the reader's own; kinds are tested in `test_model_kinds`."""
NAMED = re.compile(r"`([\w-]+\.json)`:\n\n\Z")
"""JSON has no comments: the words before a block say which file it is."""


def do(here: Installed, folder: Path, guide: str, *, only: str = "") -> list[str]:
    """Do what a guide says, or the blocks of one language only; what each command printed."""
    said = []
    path = f"{CLONE}/.venv/bin:{os.environ['PATH']}"
    environment = {**os.environ, "TIATION_HOME": str(here.home), "PATH": path}
    page = (CLONE / "docs" / guide).read_text()
    for found in BLOCK.finditer(page):
        language, block = found.groups()
        if only not in ("", language):
            continue
        text = block.replace(".venv/bin/", f"{CLONE}/.venv/bin/").replace(".tiation/", f"{here.home}/")
        text = text.replace("127.0.0.1:8443", here.address)
        if language in ("yaml", "json"):
            named = NAMED.search(page, 0, found.start())
            if language == "yaml" or named:
                file = folder / (named[1] if named else text.partition("\n")[0].removeprefix("# "))
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)  # word by word, as a reader takes it over
            continue
        command = ["bash", "-ec", text] if language == "sh" else [str(CLONE / ".venv/bin/python"), "-c", text]
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
        )
        assert ran.returncode == 0, text + ran.stdout + ran.stderr
        said.append(ran.stdout)
    return said


@pytest.mark.timeout(180)
def test_the_first_model_of_the_guide_is_trained_pushed_asked_and_pushed_again(home_of_all: Installed, tmp_path: Path):
    _, pushed, asked, embedded = do(home_of_all, tmp_path, "models.md")
    assert re.search(r"^tenants/default/models/iris/versions/\d+ ready$", pushed, re.MULTILINE)
    assert "label: output_label" in pushed
    lines = [line.split() for line in pushed.splitlines() if line.startswith(("5.1", "6.3"))]
    assert [line[1] for line in lines] == ["setosa", "virginica"]
    classification = json.loads(asked)["classifications"][0]
    assert classification["label"] == "setosa"
    assert len(classification["scores"]) == 3
    assert len(json.loads(embedded)["embeddings"][0]["values"]) == 384
    *_, aliases, signed, sourced = do(home_of_all, tmp_path, "model-repository.md", only="sh")
    assert aliases.splitlines()[-1].split()[1] == "setosa"
    assert "as signed with key" in signed
    assert "https://git.example.com/models/iris" in sourced


def test_the_inference_protocol_answers_curl_as_its_page_says(home_of_all: Installed, tmp_path: Path):
    streamed, answers = do(home_of_all, tmp_path, "inference-protocol.md", only="sh")
    assert '"finish_reason":"length"' in streamed
    assert answers.startswith('{"ready":true}{"name":"all-minilm-l6-v2","versions":["1"],')
    assert '"outputs":[{"name":"embedding","datatype":"FP32","shape":[1,384],"data":[' in answers


def test_openais_client_and_curl_get_what_the_guide_says(home_of_all: Installed, tmp_path: Path):
    vectors, answers, exchanged = do(home_of_all, tmp_path, "openai.md")
    assert exchanged == "1 vector\n"
    first, _, written = vectors.partition("\n")
    assert first.startswith("2 vectors of 384 numbers, ")
    assert len(written) > 20
    assert "data: [DONE]" in answers
    assert '"object":"embedding"' in answers
    assert '"id":"all-minilm-l6-v2"' in answers


@pytest.mark.timeout(180)
def test_the_first_agent_of_the_guide_feels_decides_and_writes(home_of_all: Installed, tmp_path: Path):
    felt, _, _, connected, ran, read = do(home_of_all, tmp_path, "guides/first-agent.md")
    assert "angry" in felt
    assert "feedback-book" in connected
    assert "account manager" in ran
    rows = [[row[key] for key in ("id", "mood", "team")] for row in json.loads(read)["rows"]]
    assert rows == [["f-1", "angry", "account manager"], ["f-2", "happy", "nobody"]]


@pytest.mark.timeout(180)
def test_the_guide_to_rest_gets_the_answers_that_it_promises(home_of_all: Installed, tmp_path: Path):
    said = do(home_of_all, tmp_path, "guides/calling-over-rest.md")
    _, created, streamed, resumed, repeated, paged, filtered, read_again, stale, errors = said
    agent, run, _ = documents(created)
    assert agent["name"] == "tenants/default/agents/rest-guide"
    assert run["state"] == "QUEUED"
    events = [json.loads(line[5:])["event"] for line in streamed.splitlines() if line.startswith("data:")]
    assert [event["type"] for event in events][:: len(events) - 1] == ["RUN_CREATED", "RUN_SUCCEEDED"]
    assert events[-1]["result"] == "ADA"
    assert json.loads(resumed.splitlines()[0][5:])["event"]["sequence"] == "3"
    one, other = documents(repeated)
    assert one["name"] == other["name"]
    assert len(documents(paged)[0]["runs"]) == 1
    assert len(documents(filtered)[0]["runs"]) == 2
    assert read_again == "304\n"
    assert documents(stale)[0]["code"] == 10
    missing, wrong = documents(errors)
    assert (missing["code"], wrong["code"]) == (5, 3)
    for error in (missing, wrong):
        assert sum(detail["@type"].endswith("google.rpc.ErrorInfo") for detail in error["details"]) == 1


def documents(text: str) -> list[dict]:
    """The JSON objects that were printed one after the other."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        found.append(document)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


@pytest.mark.timeout(180)
def test_the_page_on_decisions_does_what_it_says(home_of_all: Installed, tmp_path: Path):
    asked, tested, versions, batch, ranked, learnt = do(home_of_all, tmp_path, "decisions.md")
    assert "decisions/shipping created" in asked
    assert 'Carrier: rule 1 of 2 (Too heavy to carry), as weight_kg is > 30 (80); gives carrier = "lorry"' in asked
    assert "2 passed, 0 failed" in tested
    listed = [line.split()[0] for line in versions.splitlines()]
    assert listed[1:4] == ["version", "2", "1"]
    assert '"carrier": "post"' in versions  # as the first version says
    assert "version 3, which is version 1 again" in versions
    assert [each["result"]["carrier"] for each in json.loads(batch)["answers"]] == ["lorry", "post"]
    places = [line.split()[1] for line in ranked.splitlines() if line[:1] in {"1", "2", "3"}]
    assert places[:4] == ["valley", "north", "harbour", "valley"]  # by weights, as a sum by hand says; then by TOPSIS
    assert "bandits/reply-style created" in learnt
    assert learnt.rstrip().endswith("1 choice, 1 reward")
