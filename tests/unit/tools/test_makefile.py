"""The Makefile's own refusals: one line that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[3]


def make(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CLONE / "Makefile", folder)
    apart = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={python}", ".venv/bin/python"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=apart,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "#!/bin/sh\necho 'false (GNU coreutils) 9.1'\necho 'Copyright'\nexit 1\n",
            "{python} is no Python; 3.11 or newer",
        ),
        ("#!/bin/sh\nexit 1\n", "{python} is no Python; 3.11 or newer"),
        ("#!/bin/sh\necho 3.9.2\n", "{python} is Python 3.9.2; 3.11 or newer"),
        ("#!/bin/sh\necho 3.10.14\n", "{python} is Python 3.10.14; 3.11 or newer"),
        ("#!/bin/sh\necho 2.7.18\n", "{python} is Python 2.7.18; 3.11 or newer"),
    ],
)
def test_a_wrong_python_is_one_clear_line(tmp_path, program, said):
    python = tmp_path / "python"
    python.write_text(program)
    python.chmod(0o755)
    ended = make(tmp_path, str(python))
    assert ended.returncode != 0
    assert ended.stdout == ""
    first, *rest = ended.stderr.splitlines()
    assert first == f"error: {said.format(python=python)} is needed, run make PYTHON=/path/to/python3.11"
    assert [line for line in rest if not line.startswith("make: ***")] == []


def test_no_python_at_all_is_one_clear_line(tmp_path):
    ended = make(tmp_path, "")
    assert ended.stderr.splitlines()[0].startswith(
        "error: Python 3.11 or newer is needed and was not found; install it"
    )


def test_the_runtime_for_gpus_takes_the_others_place_and_is_remembered(tmp_path):
    """With an installer that only says what it was given."""
    for name in ("requirements", "tools", ".venv/bin"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("run.txt", "gpu.txt", "dev.txt"):
        (tmp_path / "requirements" / name).touch()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / "bin" / "python").touch()
    installer = tmp_path / "tools" / "install.sh"
    installer.write_text("#!/bin/sh\necho $1\n")
    installer.chmod(0o755)
    shutil.copy(CLONE / "Makefile", tmp_path)
    apart = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "RUNTIME"))}

    def installed(*arguments: str) -> list[str]:
        ended = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True, env=apart,
        )  # fmt: skip
        return [line for line in ended.stdout.splitlines() if line.startswith("requirements/")]

    assert installed(".venv/.run") == ["requirements/run.txt"]
    assert installed(".venv/.run") == []
    assert installed("RUNTIME=gpu", ".venv/.run-gpu") == ["requirements/gpu.txt"]
    assert installed(".venv/.run-gpu") == []  # remembered
    assert installed(".venv/.dev") == ["requirements/dev.txt"]  # which brings the runtime for processors
    assert installed(".venv/.run-gpu") == ["requirements/gpu.txt"]
    assert installed("RUNTIME=cpu", ".venv/.run") == ["requirements/run.txt"]
