"""What the command says when it fails: for people in a line, for programs in JSON, never a stack of ours."""

from __future__ import annotations

import json

import click
import grpc
import pytest

from cli import client
from cli.main import cli

NESTED = [60, 98, 2000, 100_000]


def run(tiation, door, given: str, *more: str):
    return tiation("run", "triage", "--input", given, "--home", str(door.home.path), *more)


@pytest.mark.parametrize("levels", NESTED)
def test_input_that_is_nested_too_deeply_is_one_line(tiation, door, levels):
    said = run(tiation, door, "[" * levels + "]" * levels)
    assert said.code == 2
    assert "Error: --input is nested" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ('{"id": 9007199254740993}', "holds 9007199254740993, and numbers beyond 9007199254740991 lose digits"),
        ('{"id": [-9007199254740992]}', "send it as text"),
        ('{"n": NaN}', "holds NaN, which is no number that JSON knows"),
        ('{"n": 1e999}', "holds Infinity"),
        ("{", "--input is no JSON"),
    ],
)
def test_input_that_no_run_can_take_is_one_line(tiation, door, given, complaint):
    said = run(tiation, door, given)
    assert said.code == 2
    assert complaint in said.err
    assert door.asked == []


@pytest.mark.parametrize("words", [("agents", "get", "a\udcff"), ("agents", "list", "--tenant", "\udcff")])
def test_an_argument_that_is_no_text_is_one_line(tiation, door, words):
    said = tiation(*words, "--home", str(door.home.path))
    assert (said.code, said.err) == (1, "tiation: an argument or a file holds bytes that are no UTF-8 text\n")


@pytest.mark.parametrize("how", ["option", "joined option", "variable"])
def test_with_json_an_error_is_json_on_standard_error(tiation, door, monkeypatch, how):
    options = {"option": ("--output", "json"), "joined option": ("--output=json",), "variable": ()}[how]
    if how == "variable":
        monkeypatch.setenv("TIATION_OUTPUT", "json")
    home = ("--home", str(door.home.path), *options)
    refused = tiation("agents", "get", "never-was", *home)
    assert (refused.code, refused.out) == (1, "")
    assert json.loads(refused.err) == {
        "error": {
            "code": "NOT_FOUND",
            "reason": "RESOURCE_NOT_FOUND",
            "message": "there is no tenants/default/agents/never-was",
        }
    }
    misused = tiation("run", "triage", "--input", "{", *home)
    assert misused.code == 2
    assert json.loads(misused.err)["error"]["reason"] == "USAGE"
    local = tiation("run", "triage", "--input", "@/nowhere.json", *home)
    assert (local.code, json.loads(local.err)["error"]["reason"]) == (1, "ENOENT")
    door.home.operator_key.unlink()
    assert json.loads(tiation("token", *home).err)["error"]["reason"] == "OPERATOR_KEY_MISSING"


def test_the_variable_for_the_output_holds_for_answers_too(tiation, door, monkeypatch):
    monkeypatch.setenv("TIATION_OUTPUT", "json")
    assert json.loads(tiation("agents", "list", "--home", str(door.home.path)).out) == []


def test_help_names_the_variables(tiation):
    assert "TIATION_HOME" in tiation("--help").out
    assert "TIATION_OUTPUT" in tiation("--help").out
    assert "env var: TIATION_HOME" in " ".join(tiation("agents", "list", "--help").out.split())


def test_an_empty_home_is_no_home(tiation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = tiation("up", "--home", "")
    assert said.code == 2
    assert "is empty; name the folder" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", [False, True], ids=["no home", "a home"])
def test_serving_one_service_without_addresses_says_what_to_do(tiation, home, tmp_path, made):
    where = home.path if made else tmp_path / "never-was"
    said = tiation("serve", "engine", "--home", str(where))
    assert said.code == 1
    assert f"`tiation up --home {where}` starts every service" in said.err
    assert "services.security.address" in said.err
    assert where.exists() == made


@pytest.mark.parametrize("raised", [KeyboardInterrupt, click.Abort])
def test_ctrl_c_is_answered(tiation, monkeypatch, raised):
    def interrupted(*_):
        raise raised

    monkeypatch.setattr(cli, "get_command", interrupted)
    said = tiation("agents", "list")
    assert (said.code, said.err.strip()) == (130, "Interrupted")


def test_a_run_is_asked_for_again_while_the_platform_comes_back(monkeypatch):
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.001)
    asked = []

    class Refused(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNAVAILABLE if len(asked) < 3 else grpc.StatusCode.NOT_FOUND

    def call():
        asked.append(1)
        if len(asked) == 3:
            return "made"
        raise Refused

    assert client.persist(call) == "made"
    with pytest.raises(Refused):
        client.persist(call)
    assert len(asked) == 4
