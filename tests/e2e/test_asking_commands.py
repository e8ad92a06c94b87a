"""What the command asks of models, decisions, connections and runs, and what it says when that cannot be."""

from __future__ import annotations

import json
import math

import pytest

from tests.fakes.installed import Installed, installed

MINILM = "tenants/system/models/all-minilm-l6-v2"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("asking") / "home") as made:
        made.deploy_example()
        yield made


def test_texts_become_vectors(here: Installed):
    answer = here.json("models", "embed", MINILM, "--text", "Where is my parcel?", "--text", "Hello")
    assert [len(each["values"]) for each in answer["embeddings"]] == [384, 384]
    assert math.isclose(sum(value**2 for value in answer["embeddings"][0]["values"]), 1, abs_tol=1e-4)
    shown = here.command("models", "embed", "all-minilm-l6-v2", "--text", "Hello").stdout
    assert {"384", "Hello"} <= set(shown.split())


def test_a_model_that_ships_is_named_where_its_name_is_nearly_right_or_anothers(here: Installed):
    refused = here.command("models", "embed", "all-minilm", "--text", "Hello", check=False)
    assert "there is no model `all-minilm`; did you mean `all-minilm-l6-v2`?" in refused.stderr
    refused = here.command("models", "embed", MINILM.replace("system", "default"), "--text", "Hello", check=False)
    assert f"did you mean `{MINILM}`?" in refused.stderr


def test_a_decision_answers_what_it_decides(here: Installed, tmp_path):
    facts = '{"intent": "billing", "score": 0.9, "tier": "free"}'
    plain = json.loads(here.command("decisions", "decide", "support-routing", "--input", facts).stdout)
    whole = here.json("decisions", "decide", "support-routing", "--input", facts, "--trace")
    assert plain == whole["result"]
    assert plain["queue"]
    assert whole["trace"]
    (tmp_path / "facts.json").write_text(facts)
    from_file = here.command("decisions", "decide", "support-routing", "--input", f"@{tmp_path / 'facts.json'}").stdout
    assert json.loads(from_file) == plain


@pytest.mark.parametrize(
    ("given", "said"),
    [("{", "--input is no JSON"), ("[1]", "--input"), ('{"a": 9007199254740993}', "--input"), ("[" * 5000, "--input")],
)
def test_facts_that_are_none_are_refused(here: Installed, given, said):
    refused = here.command("decisions", "decide", "support-routing", "--input", given, check=False)
    assert refused.returncode != 0
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("group", ["models", "decisions", "connections"])
def test_what_is_not_there_is_said_by_name(here: Installed, group):
    for verb in ("get", "delete"):
        refused = here.command(group, verb, "nowhere", check=False)
        assert refused.returncode == 1
        assert f"tenants/default/{group}/nowhere" in refused.stderr


def test_a_connection_is_shown_without_its_secrets_and_deleted(here: Installed, tmp_path):
    (tmp_path / "shop.yaml").write_text(
        "name: shop\nconnector: sql\nconfig: {url: 'sqlite:///crm.db'}\n"
        "operations:\n  - operationId: count\n    spec: {statement: select count(*) from tickets}\n"
        "credentials: {password: hush}\n"
    )
    here.command("connections", "apply", str(tmp_path / "shop.yaml"))
    shown = here.command("connections", "get", "shop").stdout
    assert shown.split()[-2:] == ["operations:", "count"]
    assert "hush" not in shown + here.command("connections", "get", "shop", "--output", "json").stdout
    assert here.json("connections", "delete", "shop") == {"deleted": "tenants/default/connections/shop"}
    assert here.command("connections", "get", "shop", check=False).returncode == 1


def test_a_run_can_be_followed_from_anywhere_and_after_its_end(here: Installed):
    message = {"id": "f1", "message": "I was charged twice", "tier": "free"}
    made = here.json("run", "support-triage", "--input", json.dumps(message))
    followed = here.command("runs", "follow", made["name"], "--output", "json")
    assert json.loads(followed.stdout)["state"] == "SUCCEEDED"
    events = [json.loads(line)["event"] for line in followed.stderr.splitlines()]
    assert '"ticket"' in here.command("runs", "get", made["name"]).stdout  # what came out of it
    again = here.command("runs", "follow", made["name"]).stdout
    assert len(again.splitlines()) == len(events) > 3


def test_a_run_that_is_followed_is_named_first(here: Installed):
    message = json.dumps({"id": "f2", "message": "I was charged twice", "tier": "free"})
    first = here.command("run", "support-triage", "--follow", "--input", message).stdout.splitlines()[0]
    assert first.startswith("tenants/default/agents/support-triage/runs/")


def test_following_a_run_that_failed_says_so(here: Installed):
    made = here.json("run", "support-triage", "--input", '{"id": 7}')
    assert here.command("runs", "follow", made["name"], check=False).returncode == 1
