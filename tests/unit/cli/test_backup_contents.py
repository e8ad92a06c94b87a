"""What goes into a backup: everything that is a tenant's, whatever it is called, wherever settings and links put it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from cli.backup.archive import Summary, open_archive, write_archive
from cli.backup.contents import Survey
from cli.backup.elsewhere import elsewhere
from cli.backup.restore import restore_archive
from mesh.config import load_settings

IDENTITY = pyrage.x25519.Identity.generate()


def say(_: str) -> None:
    """Say nothing."""


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def a_database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (v)")
    return path


@pytest.fixture
def home(tmp_path) -> Path:
    home = tmp_path / "home"
    a_database(home / "security" / "security.db")
    return home


def names(home: Path) -> set[str]:
    return {each.name for each in Survey(home, {}).in_order() if each.path.exists()}


def backup(home: Path) -> tuple[Path, Summary]:
    file = home.parent / "backup.age"
    folders = elsewhere(home, load_settings(home, {}))
    return file, write_archive(home, file, [IDENTITY.to_public()], "0.1.0", say, elsewhere=folders)


@pytest.mark.parametrize(
    "name",
    [
        "engine/models/default/gateway/1/model.onnx",
        "engine/models/default/logs/1/model.onnx",
        "engine/models/supervisor/m/1/model.onnx",
        "engine/models/default/m/1/token",
        "engine/models/default/m/1/policy.json",
        "engine/models/default/m/1/records.spool",
        "engine/models/default/m/1/before-upgrade-x",
        "engine/models/default/m/1/weights-wal",
        "engine/models/.upload/m/1/model.onnx",
        "integration/data/logs/notes.txt",
        "integration/data/svid.json",
        "integration/data/.upload-me/notes.txt",
        "integration/lock",
        "engine-2/kept.bin",
    ],
)
def test_what_only_has_a_name_like_something_made_anew_is_kept(home: Path, name: str):
    put(home / name)
    assert name in names(home)


def test_a_tenant_s_database_in_a_folder_of_such_a_name_is_kept_without_its_journal(home: Path):
    with closing(sqlite3.connect(a_database(home / "integration/data/logs/app.db"))) as database:
        database.execute("INSERT INTO t VALUES (1)")
        database.commit()
        assert (home / "integration/data/logs/app.db-wal").exists()
        found = names(home)
    assert "integration/data/logs/app.db" in found
    assert not [name for name in found if name.endswith(("-wal", "-shm"))]


@pytest.mark.parametrize(
    "name",
    [
        "lock", "token", "gateway.json", "logs/engine.log", "supervisor/svid.json", "gateway/envoy.json",
        "engine/svid.json", "engine/policy.json", "engine-2/svid.json", "orchestrator-16/policy.json",
        "metrics/prometheus-targets.json", "before-upgrade-20260101T000000Z/engine/engine.db",
        "engine/models/.upload-engine-2.x/model.onnx", ".scratch-x/copy", ".restoring/home/operator.key",
    ],
)  # fmt: skip
def test_what_is_made_anew_is_not(home: Path, name: str):
    put(home / name)
    assert name not in names(home)


def test_links_are_followed_and_those_that_cannot_be_are_named(home: Path):
    put(home.parent / "disk" / "default" / "m" / "1" / "model.onnx", "weights")
    put(home.parent / "etc" / "tiation.yaml", "log_level: debug\n")
    (home / "engine").mkdir()
    (home / "engine" / "models").symlink_to(home.parent / "disk")
    (home / "tiation.yaml").symlink_to(home.parent / "etc" / "tiation.yaml")
    (home / "engine" / "gone").symlink_to(home.parent / "nowhere")
    (home / "engine" / "round").symlink_to(home)
    file, summary = backup(home)
    assert set(summary.left_out) == {str(home / "engine" / "gone"), str(home / "engine" / "round")}
    restore_archive(file, home.parent / "again", [IDENTITY], say)
    assert (home.parent / "again/engine/models/default/m/1/model.onnx").read_text() == "weights"
    assert (home.parent / "again/tiation.yaml").read_text() == "log_level: debug\n"


def apart(home: Path, settings: str) -> Path:
    """Models and databases outside the home; returns where."""
    there = home.parent / "there"
    put(there / "models" / "default" / "m" / "1" / "model.onnx", "weights")
    put(there / "models" / ".upload-engine.x" / "model.onnx", "half")
    a_database(there / "data" / "crm.db")
    put(home / "engine" / "models" / "default" / "old" / "1" / "model.onnx", "unused")
    put(home / "tiation.yaml", settings.format(models=there / "models", data=there / "data"))
    return there


@pytest.mark.parametrize(
    "settings",
    [
        "# mine\nengine:\n  models: {models}  # on the large disk\nintegration: {{sqlite_folder: '{data}'}}\n",
        "engine: {{models: {models}, max_batch: 8}}\nintegration:\n  sqlite_folder: >-\n    {data}\nlog_level: debug\n",
    ],
)
def test_folders_that_settings_put_elsewhere_come_home_and_the_settings_say_so(home: Path, settings: str):
    there = apart(home, settings)
    file, summary = backup(home)
    assert summary.elsewhere == {
        "engine.models": str(there / "models"), "integration.sqlite_folder": str(there / "data")
    }  # fmt: skip
    with open_archive(file, [IDENTITY]) as tar:
        order = [info.name for info in tar]
    assert order.index("elsewhere/integration.sqlite_folder/crm.db") < order.index("security/security.db")
    again = home.parent / "again"
    told = restore_archive(file, again, [IDENTITY], say).told
    assert (again / "engine/models/default/m/1/model.onnx").read_text() == "weights"
    assert not (again / "engine/models/.upload-engine.x").exists()
    assert (again / "engine/models.unused/default/old/1/model.onnx").read_text() == "unused"
    with closing(sqlite3.connect(again / "integration/data/crm.db")) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert not (again / "elsewhere").exists()
    before, after = load_settings(home, {}), load_settings(again, {})
    assert (after.engine.models, after.integration.sqlite_folder) == ("", "")
    assert (after.engine.max_batch, after.log_level) == (before.engine.max_batch, before.log_level)
    assert [line.split("#")[1] for line in (again / "tiation.yaml").read_text().splitlines() if "#" in line] == [
        line.split("#")[1] for line in (home / "tiation.yaml").read_text().splitlines() if "#" in line
    ]
    assert [text.partition(" ")[0] for text in told[1:]] == ["engine.models", "integration.sqlite_folder"]


def test_settings_of_the_new_home_that_lead_away_stay_and_are_told(home: Path):
    apart(home, "engine: {{models: {models}}}\n")
    file, _ = backup(home)
    again = home.parent / "again"
    put(again / "tiation.yaml", "engine: {models: /large}\n")
    told = restore_archive(file, again, [IDENTITY], say).told
    assert load_settings(again, {}).engine.models == "/large"
    assert f"engine.models names /large: move there what is in {again}/engine/models, or drop the setting" in told
    assert (again / "engine/models/default/m/1/model.onnx").read_text() == "weights"


def test_a_folder_that_a_setting_names_and_that_is_not_there_is_named(home: Path):
    put(home / "tiation.yaml", "engine: {models: /nowhere/models}\n")
    _, summary = backup(home)
    assert summary.left_out == {"/nowhere/models": "is named by engine.models and is no folder that is there"}
    assert summary.elsewhere == {}


def test_a_folder_of_the_home_that_a_setting_names_is_kept_once(home: Path):
    put(home / "weights" / "default" / "m" / "1" / "model.onnx", "weights")
    put(home / "tiation.yaml", f"engine: {{models: {home / 'weights'}}}\n")
    file, summary = backup(home)
    assert [m.path for m in summary.members if "weights" in m.path or m.path.endswith(".onnx")] == [
        "elsewhere/engine.models/default/m/1/model.onnx"
    ]
    restore_archive(file, home.parent / "again", [IDENTITY], say)
    assert (home.parent / "again/engine/models/default/m/1/model.onnx").read_text() == "weights"


def test_the_command_names_what_it_took_along_and_what_it_left_out(tiation, home: Path, tmp_path):
    apart(home, "engine: {{models: {models}}}\nintegration: {{sqlite_folder: /nowhere}}\n")
    (home / "gone").symlink_to(tmp_path / "nothing")
    arguments = ("backup", str(tmp_path / "b.age"), "-r", str(IDENTITY.to_public()), "--home", str(home))
    said = tiation(*arguments)
    assert said.code == 0
    assert f"with {home.parent}/there/models, which engine.models names" in said.out
    assert f"left out: {home}/gone is a link that leads nowhere" in said.err
    assert "left out: /nowhere is named by integration.sqlite_folder" in said.err
    found = tiation(*arguments, "--output", "json").out
    assert '"left_out": [{"path": "/nowhere", "reason": ' in found or '"path": "/nowhere"' in found
    refused = tiation("backup", f"{home.parent}/there/models/b.age", *arguments[2:])
    assert (refused.code, "which it is to save" in refused.err) == (2, True)
