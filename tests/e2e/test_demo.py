"""The demo as its user runs it, on a database of the operator's."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.fakes.installed import EXAMPLE


def test_the_demo_runs_on_postgresql(postgres, tmp_path):
    """The same command; only the variable says where state is kept."""
    url = postgres.make_database("demo")
    home = tmp_path / "demo"
    finished = subprocess.run(
        [sys.executable, str(EXAMPLE / "demo.py"), "--home", str(home)],
        capture_output=True, text=True, timeout=110, check=False, env={**os.environ, "TIATION_DATABASE": url},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "The CRM holds 20 tickets for 20 messages." in finished.stdout
    assert sorted(path.name for path in home.rglob("*.db")) == ["crm.db"]
    with postgres.connect("demo") as connection:
        assert connection.execute("SELECT count(*) FROM orchestrator.runs WHERE state = 'SUCCEEDED'").fetchone() == (
            20,
        )
