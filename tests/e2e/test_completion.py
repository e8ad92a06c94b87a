"""A shell completes the command to its end: subcommands, options, and the names of what the platform has."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.installed import TIATION, Installed, installed
from tests.fakes.runs import start

SHELL = """
eval "$(tiation completion bash)"
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_tiation_completion tiation
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform with the example and one run."""
    with installed(tmp_path_factory.mktemp("completion") / "home") as made:
        made.deploy_example()
        start(made, 1, "a-run")
        yield made


def environment(home: Path) -> dict[str, str]:
    path = f"{TIATION.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TIATION_HOME": str(home)}


def completed(home: Path, line: str) -> list[str]:
    """What bash offers for a line whose last word, after the last space, is being typed."""
    words = " ".join(f"'{word}'" for word in line.split(" "))
    finished = subprocess.run(
        ["bash", "--norc", "-c", SHELL.format(words=words)],
        capture_output=True, text=True, timeout=60, check=False, env=environment(home),
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tiation doc", ["doctor"]),
        ("tiation upgrade --", ["--check", "--to", "--undo", "--home", "--output", "--help"]),
        ("tiation agents get ", ["support-triage"]),
        ("tiation agents get sup", ["support-triage"]),
        ("tiation agents get x", []),
        ("tiation run s", ["support-triage"]),
        ("tiation models get ", ["support-intents"]),
        ("tiation connections test ", ["crm"]),
        ("tiation runs get ", ["support-triage/a-run"]),
        ("tiation runs cancel support-triage/", ["support-triage/a-run"]),
        ("tiation runs list ", ["support-triage"]),
        ("tiation approvals list --run sup", ["support-triage/a-run"]),
        ("tiation roles get ", []),
        ("tiation bindings create x --role view", ["viewer"]),
        ("tiation agents list --tenant def", ["default"]),
        ("tiation agents list --tenant nobody --output ", ["table", "json"]),
    ],
)
def test_bash_offers_what_there_is(here: Installed, line, offered):
    found = completed(here.home, line)
    if line == "tiation models get ":
        assert "tenants/system/models/all-minilm-l6-v2" in found
        found = [name for name in found if not name.startswith("tenants/")]
    assert found == offered


def test_what_is_called_name_completes_to_what_its_group_has(here: Installed):
    here.command("principals", "create", "importer")
    assert completed(here.home, "tiation principals disable ") == ["importer"]
    assert completed(here.home, "tiation principals create ") == []


def test_webhooks_complete(here: Installed, tmp_path):
    (tmp_path / "orders.yaml").write_text("name: orders\nagent: support-triage\nsignature: {scheme: STANDARD}\n")
    here.command("webhooks", "apply", str(tmp_path / "orders.yaml"))
    assert completed(here.home, "tiation webhooks get ") == ["orders"]


def test_names_are_those_of_the_tenant_that_the_line_names(here: Installed):
    here.command("tenants", "create", "other")
    here.command("principals", "create", "elsewhere", "--tenant", "other")
    assert completed(here.home, "tiation principals get --tenant other ") == ["elsewhere"]
    assert "elsewhere" not in completed(here.home, "tiation principals get ")
    assert completed(here.home, "tiation agents get --tenant other ") == []
    assert completed(here.home, "tiation agents get --tenant nobody ") == []
    assert completed(here.home, "tiation bindings create x --tenant other --role view") == ["viewer"]


def test_tenants_complete_wherever_one_is_named(here: Installed):
    here.command("tenants", "create", "third")
    assert completed(here.home, "tiation tenants get th") == ["third"]
    assert completed(here.home, "tiation tenants create ") == []
    assert completed(here.home, "tiation agents list --tenant th") == ["third"]


def test_no_running_platform_means_no_names_and_no_noise(tmp_path):
    began = time.monotonic()
    assert completed(tmp_path, "tiation agents get ") == []
    assert completed(tmp_path, "tiation agents g") == ["get"]
    assert time.monotonic() - began < 30


def test_a_platform_that_hangs_keeps_nobody_waiting(here: Installed):
    pid = here.gateway["services"]["orchestrator"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert completed(here.home, "tiation agents get ") == []
        assert time.monotonic() - began < 15
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_given_the_same_names(here: Installed, shell):
    """What their scripts call prints, as they ask for it."""
    script = here.command("completion", shell).stdout
    assert f"_TIATION_COMPLETE={shell}_complete" in script
    asked = {"COMP_WORDS": "tiation agents get sup", "COMP_CWORD": "3" if shell == "zsh" else "sup"}
    finished = subprocess.run(
        ["tiation"], capture_output=True, text=True, timeout=60, check=False,
        env={**environment(here.home), **asked, "_TIATION_COMPLETE": f"{shell}_complete"},
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "support-triage" in finished.stdout
