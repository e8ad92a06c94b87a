"""The measurement on a GPU says that there is none where there is none, and measures nothing then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.gpus import find_gpus

CLONE = Path(__file__).parents[3]


@pytest.mark.skipif(bool(find_gpus().found), reason="there is a GPU here, which the measurement itself uses")
def test_without_a_gpu_it_says_so_and_ends_with_2():
    ran = subprocess.run(
        [sys.executable, "-m", "bench.gpu"],
        cwd=CLONE, env={**os.environ, "PYTHONPATH": f"{CLONE}:{CLONE / 'gen' / 'python'}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("no NVIDIA GPU here: ")
    assert ran.stderr.strip().endswith("nothing was measured")
    assert ran.stdout == ""
