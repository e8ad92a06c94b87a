"""The clients in examples/clients, as far as no platform is needed; tests/e2e runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh.config import load_settings
from tests.fakes.installed import CLONE

CLIENTS = CLONE / "examples" / "clients"
SCRIPTS = sorted(CLIENTS.glob("*/client.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.parent.name for script in SCRIPTS])
def test_what_a_script_reads_is_told_and_keeps_no_command_of_the_same_shell_from_its_work(script: Path, tmp_path: Path):
    """A variable that begins like a setting, and is none, is refused by every command."""
    read = set(re.findall(r"\$\{([A-Z_]+):-", script.read_text()))
    assert "TIATION_HOME" in read
    assert len(read) == 2
    load_settings(tmp_path, dict.fromkeys(read, "elsewhere"))
    told = (CLIENTS / "README.md").read_text()
    assert all(f"`{name}`" in told for name in read - {"TIATION_HOME"})
