"""The guides, done as they are written: every block in its order, in a folder of the reader's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.fakes.installed import CLONE, Installed

BLOCK = re.compile(r"^```(python|sh|yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def do(here: Installed, folder: Path, guide: str) -> list[str]:
    """Do what a guide says; what each command printed."""
    said = []
    environment = {**os.environ, "TIATION_HOME": str(here.home)}
    for language, block in BLOCK.findall((CLONE / "docs" / guide).read_text()):
        text = block.replace(".venv/bin/", f"{CLONE}/.venv/bin/").replace(".tiation/", f"{here.home}/")
        text = text.replace("127.0.0.1:8443", here.address)
        if language == "yaml":
            first, _, rest = text.partition("\n")
            (folder / first.removeprefix("# ")).write_text(rest)
            continue
        command = ["bash", "-ec", text] if language == "sh" else [str(CLONE / ".venv/bin/python"), "-c", text]
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
        )
        assert ran.returncode == 0, text + ran.stdout + ran.stderr
        said.append(ran.stdout)
    return said


@pytest.mark.timeout(180)
def test_the_first_model_of_the_guide_is_trained_pushed_and_asked(home_of_all: Installed, tmp_path: Path):
    _, pushed, asked, embedded = do(home_of_all, tmp_path, "models.md")
    assert re.search(r"^tenants/default/models/iris/versions/\d+ ready$", pushed, re.MULTILINE)
    assert "label: output_label" in pushed
    lines = [line.split() for line in pushed.splitlines() if line.startswith(("5.1", "6.3"))]
    assert [line[1] for line in lines] == ["setosa", "virginica"]
    classification = json.loads(asked)["classifications"][0]
    assert classification["label"] == "setosa"
    assert len(classification["scores"]) == 3
    assert len(json.loads(embedded)["embeddings"][0]["values"]) == 384
