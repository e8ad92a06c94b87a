"""The guide to operating, done as it is written, command by command."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.fakes.installed import CLONE, TIATION, Installed

PIECES = re.findall(r"```sh\n(.*?)```", (CLONE / "docs" / "operating.md").read_text(), re.DOTALL)


def follow(here: Installed, folder: Path, piece: str) -> str:
    """Run a piece of the guide in a shell whose home is the folder; what it printed."""
    environment = {
        **os.environ,
        "TIATION_HOME": str(here.home),
        "HOME": str(folder),
        "PATH": f"{TIATION.parent}:{os.environ['PATH']}",
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", piece],
        capture_output=True, text=True, timeout=180, check=False, cwd=folder, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, f"{piece}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def test_every_command_of_the_guide_does_what_it_says(home_of_all: Installed, tmp_path: Path):
    wrong, backup, on_postgres, upgrade, now, for_good = PIECES
    assert "elsewhere" in on_postgres  # it is done where PostgreSQL is
    assert "0 wrong" in follow(home_of_all, tmp_path, wrong)
    assert "could be restored" in follow(home_of_all, tmp_path, backup)
    assert (tmp_path / "restored" / "security" / "security.db").exists()
    said = follow(home_of_all, tmp_path, upgrade)
    assert "gone back" in said
    assert "to go forward" in said
    assert "gone forward" in said
    assert "put back from restored/before-upgrade-" in said
    assert len(list((tmp_path / "restored").glob("before-upgrade-*"))) == 2
    follow(home_of_all, tmp_path, f"{now}\ncomplete -p tiation")
    follow(home_of_all, tmp_path, f"{for_good}\nbash --rcfile ~/.bashrc -ic 'complete -p tiation'")
    assert "_TIATION_COMPLETE=fish_complete" in (tmp_path / ".config/fish/completions/tiation.fish").read_text()
