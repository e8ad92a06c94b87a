"""API keys by the command: where the one copy of a key goes, and who can read it there."""

from __future__ import annotations

import json
import os

import pytest

from cli.client import FileError
from cli.secret_file import new_secret_file

CREATE = ("keys", "create", "laptop", "--principal", "ada")


@pytest.fixture
def open_umask():
    """Files are readable by everybody unless they are made otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_key_goes_into_a_file_of_its_owner_and_nowhere_else(tiation, door, tmp_path, open_umask):
    file = tmp_path / "ada.key"
    said = tiation(*CREATE, "--out", str(file), "--home", str(door.home.path))
    assert said.code == 0, said.err
    assert said.out == f"tenants/default/apiKeys/laptop created; the key is in {file}\n"
    assert file.read_text() == "tia_secret\n"
    assert file.stat().st_mode & 0o777 == 0o600
    as_json = tiation(*CREATE, "--out", str(tmp_path / "again.key"), "--home", str(door.home.path), "--output", "json")
    assert json.loads(as_json.out)["name"] == "tenants/default/apiKeys/laptop"
    assert "tia_secret" not in said.out + said.err + as_json.out + as_json.err


def test_a_file_that_is_there_is_kept_and_no_key_is_made(tiation, door, tmp_path):
    file = tmp_path / "ada.key"
    file.write_text("mine")
    said = tiation(*CREATE, "--out", str(file), "--home", str(door.home.path))
    assert said.code == 1
    assert "is there already" in said.err
    assert file.read_text() == "mine"
    assert door.asked == []


def test_where_no_key_could_be_made_no_file_is_left(tiation, home, tmp_path):
    said = tiation(*CREATE, "--out", str(tmp_path / "ada.key"), "--home", str(home.path))
    assert said.code == 1
    assert not (tmp_path / "ada.key").exists()


def test_without_a_file_standard_output_is_the_key_alone(tiation, door):
    said = tiation(*CREATE, "--home", str(door.home.path))
    assert (said.code, said.out) == (0, "tia_secret\n")


def test_a_link_is_not_followed_to_where_the_key_would_go(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileError), new_secret_file(tmp_path / "link"):
        pass
    assert not (tmp_path / "elsewhere").exists()
