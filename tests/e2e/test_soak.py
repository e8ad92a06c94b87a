"""A minute of everything at once: the engine's memory stays flat, and nothing fails but what was asked to."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.fakes.installed import CLONE


def test_a_minute_at_saturation_leaves_memory_flat_and_loses_nothing():
    ran = subprocess.run(
        [sys.executable, str(CLONE / "bench" / "soak.py"), "--seconds", "60", "--print"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["wrong"] == []
    assert found["ratios"]["memory at the end / once warm"] <= 1.05
    rows = {row["requests"]: row for row in found["rows"]}
    assert rows["loads and unloads"]["answered"] >= 3
    assert rows["taken back"]["answered"] >= 3
    assert rows["without time"]["ended_as_asked"] >= 3
