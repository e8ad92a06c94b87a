"""What is in PostgreSQL goes into the backup as it was at one moment, and comes back into an empty database whole."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyrage
import pytest

from cli.backup import postgres as part
from cli.backup.archive import open_archive, write_archive
from cli.backup.postgres import CONTENTS, DatabaseNotEmptyError, PostgresError
from cli.backup.restore import DatabaseKindError, restore_archive
from cli.home import Home, RestoreUnfinishedError
from cli.schemas import migration_sets
from mesh.config import SERVICES
from mesh.db import DatabaseRefusedError, await_database, open_database
from mesh.migrate import migrate
from mesh.revisions import MigrationError, move
from tests.fakes.postgres import PASSWORD, Postgres

IDENTITY = pyrage.x25519.Identity.generate()
BLOB = bytes(range(256)) * 40_000  # more than a piece, as text
VALUES = ["plain", "tab\tand\nline\r\n", "\\N", "\\.", "ü€𝄞", "", "a\\nb"]


def say(_: str) -> None:
    """Say nothing."""


def in_database(postgres: Postgres, name: str) -> str:
    """The URL of another database of the server."""
    return f"{postgres.url.removesuffix('tiation')}{name}"


def make(postgres: Postgres, name: str) -> str:
    """A database with every service's tables; returns its URL."""
    url = postgres.make_database(name)
    for service in SERVICES:
        await_database(url, say, schema=service)
        database = open_database(url, schema=service)
        for _, versions, table in migration_sets(service):
            migrate(database.engine, versions, version_table=table)
        asyncio.run(database.close())
    return url


def a_home(folder: Path, url: str) -> Path:
    folder.mkdir()
    (folder / "security").mkdir()
    (folder / "security" / "pepper").write_text("p")
    (folder / "tiation.yaml").write_text(f"database: {url}\n")
    return folder


@pytest.fixture(scope="module")
def pattern(postgres) -> str:
    """A database with every service's tables, to be copied."""
    make(postgres, "pattern")
    return "pattern"


@pytest.fixture
def full(postgres, pattern) -> Iterator[psycopg.Connection]:
    """A database with rows of every kind."""
    with postgres.connect("postgres") as connection:
        connection.execute("DROP DATABASE IF EXISTS saved WITH (FORCE)")
        connection.execute(f"CREATE DATABASE saved TEMPLATE {pattern}")
    with postgres.connect("saved") as connection:
        for number, value in enumerate(VALUES):
            connection.execute("INSERT INTO security.policy_changes VALUES (%s, %s, %s)", (number, value, value))
            connection.execute("INSERT INTO integration.rate_limits VALUES (%s, %s)", (f"k{number}", 0.1 + number / 3))
        connection.execute("INSERT INTO security.policy VALUES (41)")
        for record in (b"", BLOB, b"gone"):
            connection.execute("INSERT INTO engine.call_records (record) VALUES (%s)", (record,))
        connection.execute("DELETE FROM engine.call_records WHERE record = 'gone'")
        yield connection


@pytest.fixture
def home(full, postgres, tmp_path) -> Path:
    return a_home(tmp_path / "home", in_database(postgres, "saved"))


@pytest.fixture
def empty(postgres) -> str:
    return postgres.make_database("empty")


def backup_of(home: Path) -> Path:
    file = home.parent / "backup.age"
    url = (home / "tiation.yaml").read_text().partition(": ")[2].strip()
    write_archive(home, file, [IDENTITY.to_public()], "0.1.0", say, database=url)
    return file


def target(folder: Path, url: str) -> Path:
    """A home to be, with nothing but its settings in it."""
    home = folder / "again"
    home.mkdir()
    (home / "tiation.yaml").write_text(f"database: {url}\n")
    return home


def schemas(postgres: Postgres, name: str) -> list[str]:
    with postgres.connect(name) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", (list(SERVICES),))
        return [row[0] for row in found]


def test_every_row_comes_back_and_numbers_go_on_where_they_were(home: Path, postgres, empty, full):
    again = target(home.parent, empty)
    restore_archive(backup_of(home), again, [IDENTITY], say)
    with postgres.connect("empty") as found:
        for query in (
            "SELECT * FROM security.policy_changes ORDER BY revision",
            "SELECT * FROM integration.rate_limits ORDER BY limit_key",
            "SELECT * FROM engine.call_records ORDER BY sequence",
            "SELECT revision FROM security.policy ORDER BY 1",
            "SELECT * FROM analytics.cursors",
            *(f"SELECT * FROM {service}.mesh_version" for service in SERVICES),
        ):
            assert found.execute(query).fetchall() == full.execute(query).fetchall(), query
        number = found.execute("INSERT INTO engine.call_records (record) VALUES ('x') RETURNING sequence").fetchone()
        assert number == (4,)
        sorts = (
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'security' AND collation_name = 'C'"
        )
        assert found.execute(sorts).fetchone() == full.execute(sorts).fetchone() != (0,)
    assert (again / "security" / "pepper").read_text() == "p"
    assert "empty" in (again / "tiation.yaml").read_text()
    assert (again / "tiation.yaml").stat().st_mode & 0o077 == 0
    assert not (again / "postgres").exists()


def test_a_row_that_is_larger_than_a_piece_stays_whole(home: Path):
    file = backup_of(home)
    with open_archive(file, [IDENTITY]) as tar:
        sizes = {info.name: info.size for info in tar if info.name.startswith("postgres/engine/call_records")}
    assert len(sizes) == 1
    assert sum(sizes.values()) > 2 * len(BLOB)


def test_a_table_of_many_rows_goes_in_many_pieces(home: Path, full, postgres, empty, monkeypatch):
    monkeypatch.setattr(part, "_PIECE_BYTES", 1000)
    full.execute("INSERT INTO engine.call_records (record) SELECT repeat('x', 90)::bytea FROM generate_series(1, 500)")
    file = backup_of(home)
    with open_archive(file, [IDENTITY]) as tar:
        assert len([info for info in tar if info.name.startswith("postgres/engine/call_records")]) > 50
    restore_archive(file, target(home.parent, empty), [IDENTITY], say)
    with postgres.connect("empty") as found:
        assert found.execute("SELECT count(*) FROM engine.call_records").fetchone() == (502,)


def test_all_schemas_are_of_one_moment(home: Path, postgres):
    """A writer keeps two schemas in step; no backup shows them out of it."""
    stop = threading.Event()

    def write() -> None:
        with postgres.connect("saved") as connection:
            number = 1000
            while not stop.is_set():
                with connection.transaction():
                    connection.execute("INSERT INTO orchestrator.queues VALUES (%s, false, 0)", (f"a{number}",))
                    connection.execute("INSERT INTO security.policy_changes VALUES (%s, 'k', 'pair')", (number,))
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = []
        for _ in range(3):
            pieces: dict[str, bytes] = {}
            part.dump(in_database(postgres, "saved"), pieces.__setitem__, say)
            tables = {(t["schema"], t["name"]): t["rows"] for t in json.loads(pieces[CONTENTS])["tables"]}
            found.append((tables[("orchestrator", "queues")], tables[("security", "policy_changes")] - len(VALUES)))
    finally:
        stop.set()
        writer.join()
    assert all(one == other for one, other in found)
    assert found[0] != found[-1]


def test_a_database_that_is_not_empty_stays_as_it_is(home: Path, postgres):
    url = postgres.make_database("empty")
    with postgres.connect("empty") as connection:
        connection.execute("CREATE SCHEMA engine CREATE TABLE mine (n int)")
    with pytest.raises(DatabaseNotEmptyError, match=r"schema engine\)"):
        restore_archive(backup_of(home), target(home.parent, url), [IDENTITY], say)
    assert schemas(postgres, "empty") == ["engine"]
    assert [path.name for path in (home.parent / "again").iterdir()] == ["tiation.yaml"]


def test_the_backup_s_own_settings_name_the_database_that_is_full(home: Path):
    with pytest.raises(DatabaseNotEmptyError, match="saved on 127"):
        restore_archive(backup_of(home), home.parent / "again", [IDENTITY], say)
    assert not (home.parent / "again").exists()


def test_rows_that_do_not_come_back_as_they_were_keep_nothing(home: Path, postgres, empty, monkeypatch):
    file = backup_of(home)
    read = part.Contents.read

    def forged(data: bytes) -> part.Contents:
        contents = read(data)
        at = next(i for i, table in enumerate(contents.tables) if table.name == "policy_changes")
        old = contents.tables[at]
        contents.tables[at] = part.Table(old.schema, old.name, old.columns, old.rows, "0" * 32)
        return contents

    monkeypatch.setattr(part.Contents, "read", forged)
    with pytest.raises(PostgresError, match=r"security\.policy_changes is not what was saved"):
        restore_archive(file, target(home.parent, empty), [IDENTITY], say)
    assert schemas(postgres, "empty") == []
    assert [path.name for path in (home.parent / "again").iterdir()] == ["tiation.yaml"]


KILLED = """
import os, signal, sys
from pathlib import Path
import pyrage
from cli.backup.restore import restore_archive

def watch(event, arguments):
    if event == "os.rename" and str(arguments[0]).endswith(sys.argv[4]) and os.path.exists(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
restore_archive(Path(sys.argv[1]), Path(sys.argv[2]), [pyrage.x25519.Identity.from_str(sys.argv[3])], print)
"""


@pytest.mark.parametrize(("at", "kept"), [("home/security", False), (".restoring", True)])
def test_a_restore_that_is_killed_before_its_end_is_never_taken_for_whole(home: Path, postgres, empty, at, kept):
    file, again = backup_of(home), target(home.parent, empty)
    command = [sys.executable, "-c", KILLED, str(file), str(again), str(IDENTITY), at]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == -9
    with pytest.raises(RestoreUnfinishedError):
        Home(again).hold()
    assert (again / "tiation.yaml").exists()
    if kept:  # PostgreSQL has its part, and there is no telling whether it is all of it
        with pytest.raises(DatabaseNotEmptyError):
            restore_archive(file, again, [IDENTITY], say)
        (again / "tiation.yaml").write_text(f"database: {postgres.make_database('another')}\n")
    restore_archive(file, again, [IDENTITY], say)
    assert (again / "security" / "pepper").read_text() == "p"
    with postgres.connect("another" if kept else "empty") as found:
        assert found.execute("SELECT count(*) FROM security.policy_changes").fetchone() == (len(VALUES),)
    os.close(Home(again).hold())


def test_checking_touches_no_database(home: Path, postgres, empty):
    summary = restore_archive(backup_of(home), home.parent / "again", [IDENTITY], say, check_only=True)
    assert CONTENTS in {member.path for member in summary.members}
    assert schemas(postgres, "empty") == []


def test_older_schemas_come_back_as_they_were(home: Path, postgres, empty):
    database = open_database(in_database(postgres, "saved"), schema="security")
    own = next(versions for name, versions, _ in migration_sets("security") if name == "security")
    move(database.engine, [(own, "alembic_version", "security_0001")])
    asyncio.run(database.close())
    restore_archive(backup_of(home), target(home.parent, empty), [IDENTITY], say)
    with postgres.connect("empty") as found:
        assert found.execute("SELECT version_num FROM security.alembic_version").fetchone() == ("security_0001",)
        assert found.execute("SELECT to_regclass('security.policy_changes')").fetchone() == (None,)


def test_a_newer_release_s_backup_is_refused_before_anything_is_done(home: Path, postgres, full, empty):
    full.execute("UPDATE security.alembic_version SET version_num = 'security_0999'")
    file = backup_of(home)
    for check_only in (True, False):
        with pytest.raises(MigrationError, match=r"security_0999.* a newer one made it"):
            restore_archive(file, home.parent / "again", [IDENTITY], say, check_only=check_only)
    assert schemas(postgres, "empty") == []


def test_a_backup_of_the_other_kind_is_refused(home: Path, empty, tmp_path):
    file = backup_of(home)
    again = target(home.parent, "''")
    with pytest.raises(DatabaseKindError, match="is of a PostgreSQL database"):
        restore_archive(file, again, [IDENTITY], say)
    on_sqlite = tmp_path / "lite"
    on_sqlite.mkdir()
    (on_sqlite / "key").write_text("k")
    lite = tmp_path / "lite.age"
    write_archive(on_sqlite, lite, [IDENTITY.to_public()], "0.1.0", say)
    (again / "tiation.yaml").write_text(f"database: {empty}\n")
    with pytest.raises(DatabaseKindError, match="is of SQLite"):
        restore_archive(lite, again, [IDENTITY], say)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"[]",
        b"{}",
        b'{"revisions": {"x": {}}, "tables": [], "sequences": []}',
        b'{"revisions": {"engine": 1}, "tables": [], "sequences": []}',
        (
            b'{"revisions": {}, "tables": [{"schema": "engine", "name": 1, "columns": [], "rows": 0, "digest": ""}],'
            b' "sequences": []}'
        ),
        (
            b'{"revisions": {}, "tables": [], "sequences":'
            b' [{"schema": "pg_catalog", "name": "a", "last_value": 1, "is_called": true}]}'
        ),
    ],
)
def test_contents_that_were_not_made_here_are_refused(contents):
    with pytest.raises(PostgresError):
        part.check(part.Contents.read(contents))


def test_the_password_is_in_no_error_and_the_backup_leaves_nothing_half_done(home: Path, postgres, full):
    full.execute("ALTER TABLE engine.call_records RENAME COLUMN record TO renamed")
    file = backup_of(home)
    with pytest.raises(PostgresError, match="other columns") as caught:
        restore_archive(file, target(home.parent, postgres.make_database("empty")), [IDENTITY], say)
    assert PASSWORD not in str(caught.value)
    (home / "tiation.yaml").write_text(f"database: {in_database(postgres, 'nowhere')}\n")
    file.unlink()
    with pytest.raises(DatabaseRefusedError, match="nowhere") as refused:
        backup_of(home)
    assert "s3cret" not in str(refused.value)
    assert not [path for path in home.parent.iterdir() if "backup" in path.name]


def test_nothing_of_the_database_lies_there_in_the_clear(home: Path):
    data = backup_of(home).read_bytes()
    for secret in (b"s3cret", b"policy_changes", b"contents.json"):
        assert secret not in data
