"""The example as a newcomer runs it: every command of its README, and of `tiation --help`, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.installed import CLONE, EXAMPLE
from tests.fakes.ports import free_ports

TIATION = CLONE / ".venv" / "bin" / "tiation"


class Newcomer:
    """A shell in a folder that looks like the clone after `make setup`, with its own platform."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (".venv", "examples"):
            (folder / name).symlink_to(CLONE / name)
        self._environment = {
            **os.environ,
            "TIATION_GATEWAY__PORT": str(free_ports(1)[0]),
            "PATH": f"{CLONE / '.venv' / 'bin'}:{os.environ['PATH']}",
        }

    def run(self, command: str) -> str:
        """What a command prints; it must succeed."""
        finished = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert finished.returncode == 0, f"{command}\n{finished.stdout}{finished.stderr}"
        return finished.stdout


@pytest.fixture
def newcomer(tmp_path) -> Iterator[Newcomer]:
    folder = tmp_path / "clone"
    folder.mkdir()
    yield Newcomer(folder)
    subprocess.run([str(TIATION), "down"], cwd=folder, capture_output=True, timeout=60, check=False)


def commands() -> list[str]:
    """The blocks of the README; what `make setup` does has been done."""
    blocks = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert "make setup\n" in blocks[0]
    return [block.replace("make setup\n", "") for block in blocks]


def help_commands() -> list[str]:
    """The commands in the help, but those that start and stop."""
    said = subprocess.run([str(TIATION), "--help"], capture_output=True, text=True, check=True).stdout
    head = re.sub(r"\\\n\s+", "", said.split("Options:")[0])
    found = [re.split(r"\s{2,}", line.strip())[0] for line in head.splitlines() if "  tiation " in line]
    assert [each.split()[1] for each in found] == ["up", "models", "agents", "run", "records", "top", "down"]
    return [each for each in found if each.split()[1] not in ("up", "down")]


def test_every_command_of_the_readme_and_of_the_help_works(newcomer: Newcomer):
    said = [newcomer.run(block) for block in commands()]
    assert (newcomer.folder / ".tiation" / "gateway.json").exists()
    assert "tenants/default/connections/crm: works" in said[2]
    assert said[3].count("run succeeded") == 2
    assert "('first', " in said[4]
    assert "('second', " in said[4]
    helped = [newcomer.run(command) for command in help_commands()]
    assert "run succeeded" in helped[2]
    newcomer.run(".venv/bin/tiation down")
