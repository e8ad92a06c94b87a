"""A full disk under the state folder: said clearly, nothing half-done, and over as soon as there is room."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.installed import Installed, installed


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Installed]:
    """A platform on a disk of 160 MiB; mounting it takes root, as in a container."""
    disk = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(disk)], check=True)
    try:
        with installed(disk / "home") as made:
            yield made
    finally:
        for _ in range(50):
            if subprocess.run(["umount", str(disk)], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)


def fill(disk: Path) -> Path:
    """Fill a disk to its last byte."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
        os.fsync(file.fileno())
    return path


def test_writes_are_refused_clearly_and_work_again_when_there_is_room(small: Installed):
    with small.rest() as client:
        collection = "/v1/tenants/default/principals"
        assert client.post(collection, params={"principal_id": "before"}, json={}).status_code == 200
        ballast = fill(small.home.parent)
        answers = []
        for number in range(200):  # pages that SQLite has set aside may take some writes yet
            answer = client.post(
                collection, params={"principal_id": f"during-{number}"}, json={"displayName": "x" * 120}
            )
            answers.append((number, answer.status_code))
            if answer.status_code != 200:
                break
        number, code = answers[-1]
        assert code == 429, answer.text
        assert "space" in answer.json()["message"]
        assert answer.json()["details"][0]["reason"] == "STORAGE_FULL"
        ballast.unlink()
        deadline = time.monotonic() + 20
        while client.get(collection).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        names = {
            principal["name"].rsplit("/", 1)[1]
            for principal in client.get(collection, params={"page_size": 1000}).json()["principals"]
        }
        assert names == {"before", *(f"during-{each}" for each, status in answers if status == 200)}
        again = client.post(collection, params={"principal_id": f"during-{number}"}, json={"displayName": "x" * 120})
        assert again.status_code == 200, again.text
    small.wait_serving()
