"""A backup that is stopped, killed, made twice at once or short of room: what is left, and what is said."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyrage
import pytest

from cli.backup import copying
from cli.backup.archive import write_archive
from cli.backup.copying import ArchiveError, CopyError, NoRoomError
from cli.backup.restore import restore_archive
from tests.fakes.installed import TIATION

IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())


def say(_: str) -> None:
    """Say nothing."""


@pytest.fixture
def home(tmp_path) -> Path:
    """A home with a database of 2 MB."""
    home = tmp_path / "home"
    for service in ("security", "engine"):
        (home / service).mkdir(parents=True)
        with closing(sqlite3.connect(home / service / f"{service}.db")) as database:
            database.execute("CREATE TABLE t (v BLOB)")
            database.execute("INSERT INTO t VALUES (randomblob(2000000))")
            database.commit()
    return home


@pytest.fixture
def beside(tmp_path) -> Path:
    """Where the backups go."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


def backup(home: Path, file: Path, told=say) -> None:
    write_archive(home, file, [IDENTITY.to_public()], "0.1.0", told)


def left(home: Path, beside: Path) -> list[str]:
    return sorted(path.name for path in (*home.glob(".*"), *beside.glob(".*")))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from reading a database."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def under_way(home: Path, file: Path) -> Iterator[subprocess.Popen[str]]:
    """A backup that stands still at the engine's database."""
    with (
        locked(home / "engine" / "engine.db"),
        subprocess.Popen(
            [str(TIATION), "backup", str(file), "-r", RECIPIENT, "--home", str(home)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        assert "engine/engine.db" in process.stdout.readline()
        yield process
        process.kill()


def test_two_backups_to_one_file_do_not_touch_each_other_s(home: Path, beside: Path):
    file = beside / "nightly.age"
    begun: list[str] = []

    def told(text: str) -> None:
        if not begun:
            begun.append(text)
            backup(home, file)
            assert len(left(home, beside)) == 2

    backup(home, file, told)
    restore_archive(file, home.parent / "again", [IDENTITY], say)
    assert left(home, beside) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_backup_that_is_stopped_leaves_nothing_behind(home: Path, beside: Path, number: signal.Signals):
    with under_way(home, beside / "nightly.age") as process:
        assert len(left(home, beside)) == 2
        process.send_signal(number)
        assert process.wait(20) == (130 if number == signal.SIGINT else 128 + number)
        assert process.stderr is not None
        assert process.stderr.read().strip() == "Interrupted"
    assert left(home, beside) == []
    assert list(beside.iterdir()) == []


def test_what_a_backup_that_was_killed_left_is_removed_by_the_next(home: Path, beside: Path):
    file = beside / "nightly.age"
    with under_way(home, file) as process:
        process.kill()
        process.wait()
        assert len(left(home, beside)) == 2
    (beside / ".monthly.age.x.unfinished").write_text("another one's")
    backup(home, file)
    assert left(home, beside) == [".monthly.age.x.unfinished"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_copies_in_the_clear_lie_in_the_home_for_its_owner_alone(home: Path, beside: Path):
    inside, outside = set(), set()

    def told(_: str) -> None:
        inside.update((path.name[:9], path.stat().st_mode & 0o777) for path in home.glob(".*"))
        outside.update((path.suffix, path.stat().st_mode & 0o777) for path in beside.iterdir())

    backup(home, beside / "nightly.age", told)
    assert inside == {(".scratch-", 0o700)}
    assert outside == {(".unfinished", 0o600)}


def test_a_database_that_stays_locked_is_named_after_a_while(home: Path, beside: Path, monkeypatch):
    monkeypatch.setattr(copying, "_PATIENCE_S", 0.2)
    with locked(home / "engine" / "engine.db"), pytest.raises(CopyError, match=r"engine/engine\.db is kept locked"):
        backup(home, beside / "nightly.age")
    assert left(home, beside) == []


@contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own; mounting it takes root, as in a container."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_home_without_room_for_a_copy_is_said_to_be_full_and_not_its_database_damaged(home: Path, beside: Path):
    with small(home.parent / "disk", "6m") as disk:
        full = Path(home.rename(disk.parent / "old"))
        subprocess.run(["cp", "-a", str(full), str(disk / "home")], check=True)
        (disk / "ballast").write_bytes(bytes(1_500_000))
        with pytest.raises(NoRoomError, match=f"no room is left in {disk}/home; free some") as caught:
            backup(disk / "home", beside / "nightly.age")
        assert "earlier backup" not in str(caught.value)
        (disk / "ballast").unlink()
        backup(disk / "home", beside / "nightly.age")
        assert left(disk / "home", beside) == []


def test_a_disk_without_room_for_the_backup_is_named(home: Path):
    with small(home.parent / "disk", "1m") as disk:
        with pytest.raises(NoRoomError, match=f"no room is left in {disk}; free some"):
            backup(home, disk / "nightly.age")
        assert list(disk.iterdir()) == []
    assert list(home.glob(".*")) == []


def test_a_database_that_is_damaged_is_said_to_be(home: Path, beside: Path):
    path = home / "engine" / "engine.db"
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"(?s)engine/engine\.db is damaged .* earlier backup"):
        backup(home, beside / "nightly.age")


@pytest.mark.parametrize(("purpose", "said"), [("upgrade", "holds it; wait for its end"), ("restore", "holds it")])
def test_a_home_that_another_command_changes_is_not_saved(tiation, home: Path, beside: Path, purpose, said):
    from cli.home import Home

    holding = Home(home).hold(purpose)
    try:
        refused = tiation("backup", str(beside / "b.age"), "-r", RECIPIENT, "--home", str(home))
    finally:
        os.close(holding)
    assert refused.code == 1
    assert f"`tiation {purpose}` (process {os.getpid()}) {said}" in refused.err
    (home / ".restoring").mkdir()
    refused = tiation("backup", str(beside / "b.age"), "-r", RECIPIENT, "--home", str(home))
    assert "was cut off" in refused.err
