"""What a platform leaves on the machine: everything lies in its state folder, nothing in anybody's home."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.fakes.installed import installed


def held(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_platform_writes_nothing_outside_its_state_folder(tmp_path, monkeypatch):
    person, temporary, away, state = (tmp_path / name for name in ("person", "tmp", "away", "state"))
    for folder in (person, temporary, away, state):
        folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("XDG_", "ORT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.chdir(away)
    with installed(state / "home") as here:
        here.deploy_example()
        given = '{"id": "footprint", "message": "Please refund me", "tier": "free"}'
        assert here.json("run", "support-triage", "--input", given, "--follow")["state"] == "SUCCEEDED"
        time.sleep(2)  # what is written from a background thread has been written by then
        assert held(person) == []
    assert held(person) == []
    assert held(temporary) == []
    assert held(away) == []
    assert [path.name for path in state.iterdir()] == ["home"]
