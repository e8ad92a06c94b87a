"""Starting a platform that cannot be: `up` says why and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.ports import free_ports

TIATION = Path(sys.executable).with_name("tiation")


def up(home: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TIATION), "up", "--home", str(home), "--port", str(free_ports(1)[0]), *more],
        capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **variables},
    )  # fmt: skip


@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["staying", "detached"])
def test_a_device_that_is_not_there_ends_the_start_with_the_reason(tmp_path, detach):
    ended = up(tmp_path / "home", *detach, TIATION_ENGINE__DEVICE="cuda")
    assert ended.returncode == 1
    assert "engine does not start" in ended.stderr
    assert "engine.device: cuda, but the installed onnxruntime has no CUDAExecutionProvider" in ended.stderr
    assert "set engine.device: cpu" in ended.stderr
    assert not (tmp_path / "home" / "gateway.json").exists()


def test_with_json_a_start_that_failed_is_json_on_standard_error(tmp_path):
    for detach in ((), ("--detach",)):
        ended = up(tmp_path / "home", "--output", "json", *detach, TIATION_ENGINE__MAX_BATCH="0")
        assert ended.returncode == 1
        assert json.loads(ended.stderr)["error"]["reason"] == "SETTING_INVALID"
        assert ended.stdout == ""


def test_ctrl_c_before_anything_was_started_is_answered(tmp_path):
    """Just after the first line the supervisor does not listen for it yet."""
    process = subprocess.Popen(
        [str(TIATION), "up", "--home", str(tmp_path / "home"), "--port", str(free_ports(1)[0])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Starting the platform on ")
    process.send_signal(signal.SIGINT)
    said, failed = process.communicate(timeout=60)
    assert process.returncode in (0, 130), failed
    assert "Traceback" not in failed
    assert "Nothing was left running" in failed or "stopped" in said
    assert not (tmp_path / "home" / "gateway.json").exists()
