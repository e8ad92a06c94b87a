"""The command as a whole: its exit codes, its help, its completion, how it prints and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tiation.orchestrator.v1 import agent_pb2

from cli.main import cli
from cli.options import full_name, split_name
from cli.output import print_table

EVERY = (
    "up", "down", "status", "logs", "serve", "token", "run", "rank", "top", "backup", "restore", "upgrade", "doctor",
    "completion",
)  # fmt: skip
GROUPS = {
    "agents": ("apply", "list", "get", "delete", "traffic", "rollback", "queue", "pause", "resume"),
    "approvals": ("list", "get", "answer"),
    "runs": ("list", "get", "cancel", "follow", "fork", "redrive"),
    "schedules": ("apply", "list", "get", "pause", "resume", "trigger", "backfill", "delete"),
    "models": (
        "push",
        "list",
        "get",
        "delete",
        "classify",
        "embed",
        "extract-entities",
        "detect",
        "regress",
        "generate",
        "alias",
        "load",
        "policy",
        "profile",
        "sign",
        "unload",
        "variant",
        "verify",
        "versions",
    ),
    "decisions": ("push", "list", "get", "delete", "decide", "test", "versions", "rollback", "alias"),
    "bandits": ("apply", "list", "get", "delete", "choose", "reward", "report"),
    "connections": ("apply", "invoke", "list", "get", "delete", "test"),
    "webhooks": ("apply", "delete", "get", "list", "test"),
    "tenants": ("create", "apply", "list", "get", "delete"),
    "principals": ("create", "apply", "list", "get", "delete", "disable", "enable"),
    "groups": ("create", "apply", "list", "get", "delete", "add", "remove"),
    "roles": ("create", "apply", "list", "get", "delete"),
    "bindings": ("create", "apply", "list", "get", "delete"),
    "keys": ("create", "list", "get", "delete"),
    "access": ("explain", "check"),
    "records": ("list",),
}
LOCAL = (("models", "sign"), ("models", "verify"))
"""Those that ask no platform."""
LEAVES = [(name,) for name in EVERY] + [(group, name) for group, names in GROUPS.items() for name in names]


def command(path: tuple[str, ...]) -> click.Command:
    """A command by its words."""
    found: click.Command = cli
    for word in path:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
        assert found is not None, f"there is no {path}"
    return found


def test_there_are_exactly_the_commands_that_scripts_rely_on():
    assert set(cli.list_commands(click.Context(cli))) == {*EVERY, *GROUPS}
    for group, names in GROUPS.items():
        assert set(command((group,)).commands) == set(names)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_teaches_by_an_example_and_takes_home_and_output(tiation, path):
    said = tiation(*path, "--help")
    assert said.code == 0
    assert "Example:" in said.out
    assert f"tiation {' '.join(path)}" in said.out.split("Example:")[1]
    if path not in LOCAL:
        assert "--home" in said.out
        assert "--output [table|json]" in said.out


@pytest.mark.parametrize("path", [(), *((group,) for group in GROUPS)], ids=" ".join)
def test_groups_list_what_they_hold(tiation, path):
    said = tiation(*path, "--help")
    assert said.code == 0
    for name in GROUPS[path[0]] if path else (*EVERY, *GROUPS):
        assert f"\n  {name} " in said.out


def test_help_documents_the_exit_codes(tiation):
    assert "Exit codes: 0 done, 1 refused or failed, 2 wrong usage" in " ".join(tiation("--help").out.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(tiation, shell):
    said = tiation("completion", shell)
    assert said.code == 0
    assert f"_TIATION_COMPLETE={shell}_complete" in said.out


def test_completion_knows_the_commands():
    asked = {**os.environ, "_TIATION_COMPLETE": "bash_complete", "COMP_WORDS": "tiation con", "COMP_CWORD": "1"}
    program = Path(sys.executable).with_name("tiation")
    finished = subprocess.run([program], env=asked, capture_output=True, text=True, timeout=30, check=False)
    assert finished.stdout.split() == ["plain,connections"]


def test_a_command_that_fails_ends_with_1_and_one_that_is_misused_with_2(tiation, home):
    for arguments, code in (
        (("status", "--home", str(home.path)), 1),
        (("status", "--colour"), 2),
        (("dance",), 2),
        (("logs", "telephone"), 2),
        (("run", "tenants/default/models/x", "--home", str(home.path)), 2),
        (("run", "x", "--input", "{", "--home", str(home.path)), 2),
        (("down", "--home", str(home.path)), 0),
    ):
        assert tiation(*arguments).code == code, arguments


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_that_a_command_asks_for_is_the_process_exit_code(tiation, monkeypatch, code):
    @click.command()
    def ending() -> None:
        raise click.exceptions.Exit(code)

    monkeypatch.setattr(cli, "get_command", lambda *_: ending)
    assert tiation("ending").code == code


def test_status_fails_while_a_service_does_not_answer(tiation, door):
    from cli.commands.platform import SERVICES

    services = {name: {"address": "127.0.0.1:9", "metrics": "", "pid": 1} for name in SERVICES}
    gateway = json.loads(door.home.gateway_file.read_text()) | {"services": services | {"envoy": {"pid": 1}}}
    door.home.gateway_file.write_text(json.dumps(gateway))
    (door.home.path / "supervisor").mkdir()
    svid = {"trust_bundle": door.home.ca.read_text(), "private_key": "", "certificate_chain": ""}
    (door.home.path / "supervisor" / "svid.json").write_text(json.dumps(svid))
    said = tiation("status", "--home", str(door.home.path), "--output", "json")
    assert said.code == 1
    shown = json.loads(said.out)["services"]
    assert {process["state"] for process in shown.values()} == {"NOT_SERVING"}
    assert list(shown) == [*SERVICES, "envoy"]


def test_what_this_machine_refuses_is_one_line_that_names_the_file(tiation, home):
    said = tiation("run", "x", "--input", "@/nowhere/input.json", "--home", str(home.path))
    assert (said.code, said.err) == (1, "tiation: /nowhere/input.json: No such file or directory\n")


def test_a_full_disk_says_what_to_do(tiation, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/home/x")

    monkeypatch.setattr(cli, "get_command", full)
    said = tiation("up")
    assert said.code == 1
    assert said.err.startswith("tiation: /home/x: No space left on device; make room, or choose a home on another disk")


def test_without_a_platform_commands_say_how_to_start_one(tiation, home):
    for arguments in (("agents", "list"), ("token",), ("records", "list"), ("models", "list"), ("top",)):
        said = tiation(*arguments, "--home", str(home.path))
        assert said.code == 1
        assert said.err.strip().endswith(f"start one with `tiation up --home {home.path}`"), arguments


def test_a_platform_that_does_not_answer_is_said_so(tiation, door):
    door.home.gateway_file.write_text(json.dumps({"url": "https://127.0.0.1:9", "services": {}}))
    said = tiation("agents", "list", "--home", str(door.home.path))
    assert said.code == 1
    assert "the platform does not answer" in said.err
    assert "`tiation status` says more" in said.err


def test_lists_print_every_page_as_a_table_or_as_json(tiation, door):
    for number in range(5):
        name = f"tenants/default/agents/a{number}"
        door.agents[name] = agent_pb2.Agent(
            name=name, state=agent_pb2.Agent.READY, current_revision=f"{name}/revisions/7"
        )
    said = tiation("agents", "list", "--home", str(door.home.path))
    lines = [line.split() for line in said.out.splitlines()]
    assert lines == [
        ["agent", "state", "revision", "traffic"],
        *([f"tenants/default/agents/a{n}", "READY", "7", "newest"] for n in range(5)),
    ]
    found = json.loads(tiation("agents", "list", "--home", str(door.home.path), "--output", "json").out)
    assert [agent["name"] for agent in found] == [f"tenants/default/agents/a{n}" for n in range(5)]
    assert {token for _, token, _ in door.asked} == {"Bearer kept-token"}


def test_a_resource_may_be_named_short_or_in_full(tiation, door):
    name = "tenants/default/agents/triage"
    door.agents[name] = agent_pb2.Agent(name=name, flow="do: []")
    for given in ("triage", name):
        assert tiation("agents", "get", given, "--home", str(door.home.path)).out.startswith(name)
    assert tiation("agents", "delete", name, "--home", str(door.home.path)).out == f"{name} deleted\n"
    assert door.agents == {}
    gone = tiation("agents", "delete", "triage", "--home", str(door.home.path))
    assert (gone.code, gone.err) == (1, f"tiation: there is no {name} [RESOURCE_NOT_FOUND]\n")


def test_the_token_command_prints_the_token_alone(tiation, door):
    said = tiation("token", "--tenant", "acme", "--role", "viewer", "--ttl", "60", "--home", str(door.home.path))
    assert (said.code, said.out) == (0, "exchanged-for-tenants/acme\n")
    _, header, request = door.asked[0]
    assert (header, request.role, request.ttl.seconds, request.api_key) == ("", "viewer", 60, "operator-key")


def test_a_home_without_the_operators_key_is_said_so(tiation, door):
    door.home.operator_key.unlink()
    said = tiation("token", "--home", str(door.home.path))
    assert said.code == 1
    assert f"{door.home.operator_key} is missing" in said.err


def test_the_home_comes_from_the_environment_and_the_option_wins(tiation, door, monkeypatch, tmp_path):
    monkeypatch.setenv("TIATION_HOME", str(door.home.path))
    assert tiation("agents", "list").code == 0
    assert tiation("agents", "list", "--home", str(tmp_path / "other")).code == 1


def test_names():
    assert full_name("acme", "agents", "x") == "tenants/acme/agents/x"
    assert split_name("acme", "agents", "x") == ("acme", "x")
    assert split_name("acme", "agents", "tenants/other/agents/x") == ("other", "x")
    for wrong in ("tenants/a/models/x", "tenants/a/agents", "tenants/a/agents/x/runs/y", "a/b"):
        with pytest.raises(click.UsageError, match="names none of the agents"):
            split_name("acme", "agents", wrong)


def test_tables_are_as_wide_as_their_cells(capsys):
    print_table(("a", "long heading"), [("wide cell", 1), ("", "x")])
    assert capsys.readouterr().out == "a          long heading\nwide cell  1\n           x\n"


def test_logs_show_the_end_of_each_and_mark_whose_it_is(tiation, home):
    home.log("engine").write_text("\n".join(f"line {n}" for n in range(100)) + "\n")
    home.log("envoy").write_text('{"message": "m"}\n')
    said = tiation("logs", "engine", "--lines", "2", "--home", str(home.path))
    assert said.out == "line 98\nline 99\n"
    said = tiation("logs", "-n", "1", "--home", str(home.path))
    assert [line.split() for line in said.out.splitlines()] == [
        ["engine", "line", "99"],
        ["envoy", '{"message":', '"m"}'],
    ]
    said = tiation("logs", "-n", "1", "--home", str(home.path), "--output", "json")
    assert [json.loads(line)["message"] for line in said.out.splitlines()] == ["line 99", "m"]


def test_the_command_starts_without_grpc():
    """Completion and help run at every keystroke: nothing heavy may be imported for them."""
    code = "import sys, cli.main; sys.exit('grpc' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
