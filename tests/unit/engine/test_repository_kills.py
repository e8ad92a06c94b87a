"""SIGKILL in the midst of pushes, swaps, loads and unloads: what was answered holds, and nothing is half done."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engine.repository.folders import files_in
from engine.repository.models import Model, ModelVersion
from engine.repository.records import number_of
from tests.unit.engine.shelf import MODEL, Shelf

ONE = {"x": np.ones((1, 2), np.float32)}


def churned(root: Path, after_s: float) -> list[str]:
    """What a process has said it did before it was killed, so long after its start."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.engine.churn", str(root)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        time.sleep(after_s)
        process.kill()
        said += process.stdout.readlines()
    return [line.strip() for line in said if line.endswith("\n")]


@pytest.mark.parametrize("after_s", [0.11, 0.37, 0.83])
async def test_what_was_answered_holds_after_a_kill_and_nothing_is_half_done(tmp_path: Path, after_s: float):
    shelf = Shelf(tmp_path)
    try:
        pushed = 0
        for turn in range(2):
            said = await asyncio.to_thread(churned, tmp_path, after_s + turn * 0.05)
            assert said[0] == "started"
            pushed = max([pushed, *(int(line.split()[1]) for line in said if line.startswith("pushed"))])
        repository = await shelf.started()
        model = await repository._records.known(Model, MODEL)
        if model is None:
            assert pushed == 0
            return
        entries = {number_of(entry.name): entry for entry in await shelf.catalogue.every(ModelVersion)}
        assert set(range(1, pushed + 1)) <= set(entries)
        assert len(entries) == max(entries) == model.body.latest <= pushed + 2
        for entry in entries.values():
            assert files_in(tmp_path / "models/t/m" / str(number_of(entry.name))) == list(entry.body.files)
            assert (repository.state(entry) == "READY") == entry.body.wanted, entry.name
        assert len(repository.versions_of(MODEL)) == 1
        answer = await repository.find("t", "m", "").servable.infer(ONE)
        assert answer.outputs["y"].shape == (1, 2)
        assert not list((tmp_path / "models").glob(".upload-engine.*"))
    finally:
        await shelf.close()
