"""A home goes into one encrypted file and comes back as it was; what is damaged or for others is refused whole."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from cli.backup.archive import MANIFEST, ArchiveError, open_archive, write_archive
from cli.backup.contents import Survey
from cli.backup.restore import HomeNotEmptyError, restore_archive

IDENTITY = pyrage.x25519.Identity.generate()


def say(_: str) -> None:
    """Say nothing."""


def a_database(path: Path, rows: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)")
        database.executemany("INSERT INTO t (v) VALUES (?)", [(f"secret-{n}",) for n in range(rows)])
        database.commit()


@pytest.fixture
def home(tmp_path) -> Path:
    """A home with something of every kind in it."""
    home = tmp_path / "home"
    for service in ("security", "orchestrator", "engine", "integration"):
        a_database(home / service / f"{service}.db")
        (home / service / "policy.json").write_text("{}")
        (home / service / "svid.json").write_text("{}")
        (home / service / "records.spool").write_bytes(b"spooled")
    a_database(home / "integration" / "data" / "crm.db")
    (home / "engine" / "models" / "default" / "m" / "1").mkdir(parents=True)
    (home / "engine" / "models" / "default" / "m" / "1" / "model.onnx").write_bytes(bytes(3_000_000))
    (home / "engine" / "models" / ".upload-x").mkdir()
    (home / "engine" / "models" / ".upload-x" / "half").write_text("half")
    (home / "logs").mkdir()
    (home / "logs" / "engine.log").write_text("log")
    (home / "lock").write_text("1")
    (home / "token").write_text("t")
    (home / "operator.key").write_text("key")
    return home


def backup_of(home: Path) -> Path:
    file = home.parent / "backup.age"
    write_archive(home, file, [IDENTITY.to_public()], "0.1.0", say)
    return file


def rows(path: Path) -> list[tuple]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT * FROM t ORDER BY n").fetchall()


def test_what_was_backed_up_comes_back(home: Path):
    restored = home.parent / "again"
    restore_archive(backup_of(home), restored, [IDENTITY], say)
    for name in ("security/security.db", "integration/data/crm.db", "orchestrator/orchestrator.db"):
        assert rows(restored / name) == rows(home / name)
    for name in ("operator.key", "engine/models/default/m/1/model.onnx", "engine/records.spool"):
        assert (restored / name).read_bytes() == (home / name).read_bytes()
    assert restored.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in restored.rglob("*") if path.is_file())


def test_what_is_made_anew_stays_out(home: Path):
    names = {each.name for each in Survey(home, {}).in_order() if each.path.exists()}
    for left_out in ("lock", "token", "logs/engine.log", "engine/svid.json", "engine/policy.json"):
        assert left_out not in names
    assert not any(".upload-" in name or name.endswith(("-wal", "-shm")) for name in names)


def test_whoever_calls_is_copied_before_whom_it_calls_and_files_after_what_speaks_of_them(home: Path):
    names = [each.name for each in Survey(home, {}).in_order() if each.path.exists()]
    wanted = [
        "engine/records.spool", "orchestrator/orchestrator.db", "engine/engine.db", "integration/integration.db",
        "integration/data/crm.db", "security/security.db", "engine/models/default/m/1/model.onnx",
    ]  # fmt: skip
    assert [name for name in names if name in wanted] == wanted


def test_a_database_that_is_written_meanwhile_is_copied_as_it_was_at_one_moment(home: Path):
    path = home / "orchestrator" / "orchestrator.db"
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=10)) as database:
            number = 0
            while not stop.is_set():
                database.execute("BEGIN IMMEDIATE")
                for _ in range(2):  # always two by two
                    database.execute("INSERT INTO t (v) VALUES (?)", (f"pair-{number}",))
                database.commit()
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for attempt in range(5):
            file = home.parent / f"backup-{attempt}.age"
            write_archive(home, file, [IDENTITY.to_public()], "0.1.0", say)
            restored = home.parent / f"again-{attempt}"
            restore_archive(file, restored, [IDENTITY], say)
            assert len(rows(restored / "orchestrator" / "orchestrator.db")) % 2 == 0
    finally:
        stop.set()
        writer.join()


def test_nothing_lies_there_in_the_clear(home: Path):
    data = backup_of(home).read_bytes()
    assert data.startswith(b"age-encryption.org/v1")
    assert b"secret-1" not in data
    assert b"operator.key" not in data
    assert backup_of(home).stat().st_mode & 0o777 == 0o600


def test_a_damaged_database_is_refused_and_leaves_no_half_backup(home: Path):
    path = home / "engine" / "engine.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"engine/engine\.db"):
        backup_of(home)
    assert not [path for path in home.parent.iterdir() if "backup" in path.name]


def test_the_wrong_key_opens_nothing(home: Path):
    with pytest.raises(ArchiveError, match="--identity"):
        restore_archive(backup_of(home), home.parent / "again", [pyrage.x25519.Identity.generate()], say)
    assert not (home.parent / "again").exists()


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_backup_that_is_cut_short_restores_nothing(home: Path, kept: float):
    file = backup_of(home)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ArchiveError):
        restore_archive(file, home.parent / "again", [IDENTITY], say)
    assert not (home.parent / "again").exists()


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_changed_byte_is_found(home: Path, at: float):
    file = backup_of(home)
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArchiveError):
        restore_archive(file, home.parent / "again", [IDENTITY], say)


def forged(folder: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """An archive that somebody else has made."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    file = folder / "forged.age"
    file.write_bytes(pyrage.encrypt(plain.getvalue(), [IDENTITY.to_public()]))
    return file


def a_link() -> tarfile.TarInfo:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "members",
    [
        [],
        [(tarfile.TarInfo("../outside"), b"x")],
        [(tarfile.TarInfo("/tmp/outside"), b"x")],
        [(a_link(), b"")],
        [(tarfile.TarInfo("a"), b"x")],
        [(tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo(MANIFEST), b"no json")],
        [(tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo(MANIFEST), json.dumps({"format": 99}).encode())],
        [
            (tarfile.TarInfo("a"), b"x"),
            (tarfile.TarInfo(MANIFEST), json.dumps({"format": 1, "release": "0", "files": []}).encode()),
        ],
    ],
)  # fmt: skip
def test_what_was_not_made_here_is_refused(tmp_path, members):
    with pytest.raises(ArchiveError):
        restore_archive(forged(tmp_path, members), tmp_path / "again", [IDENTITY], say)
    assert not (tmp_path / "again").exists()
    assert not (tmp_path / "outside").exists()


def test_a_home_that_is_not_empty_stays_as_it_is(home: Path):
    with pytest.raises(HomeNotEmptyError):
        restore_archive(backup_of(home), home, [IDENTITY], say)
    assert (home / "operator.key").read_text() == "key"


def test_checking_keeps_nothing(home: Path):
    summary = restore_archive(backup_of(home), home.parent / "again", [IDENTITY], say, check_only=True)
    assert any(member.path == "security/security.db" for member in summary.members)
    assert not (home.parent / "again").exists()


def test_the_archive_is_plain_tar_inside_plain_age(home: Path):
    plain = pyrage.decrypt(backup_of(home).read_bytes(), [IDENTITY])
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        names = tar.getnames()
    assert names[-1] == MANIFEST
    with open_archive(backup_of(home), [IDENTITY]) as tar:
        assert [info.name for info in tar] == names
