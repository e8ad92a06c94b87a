"""Schemas go to other revisions while nothing runs: seen before, copied aside, wholly or not at all, and undone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

import mesh
from cli.home import Home
from cli.schemas import migration_sets
from mesh.config import SERVICES
from mesh.db import await_database, open_database
from mesh.migrate import migrate
from mesh.revisions import known_revisions, revisions
from tests.fakes.installed import TIATION
from tests.fakes.postgres import PASSWORD

LATER = '''
"""A table more."""

import sqlalchemy as sa
from alembic import op

revision = "mesh_later"
down_revision = "{newest}"


def upgrade():
    op.create_table("later", sa.Column("n", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("later")
'''


def say(_: str) -> None:
    """Say nothing."""


class Stopped:
    """A home whose services have made their databases and stopped.

    Args:
        home: the folder.
        database: PostgreSQL's URL; empty for SQLite.
        made: whether all is there already.
    """

    def __init__(self, home: Path, database: str, *, made: bool = False) -> None:
        self.home = home
        self.database = database
        if made:
            return
        for service in SERVICES:
            (home / service).mkdir(parents=True)
        self.start()

    def start(self) -> None:
        """Do to every database what its service does at its start."""
        for service in SERVICES:
            await_database(self.location(service), say, schema=service)
            database = open_database(self.location(service), schema=service)
            for _, versions, table in migration_sets(service):
                migrate(database.engine, versions, version_table=table)
            asyncio.run(database.close())

    def location(self, service: str) -> str:
        return self.database or f"sqlite:///{self.home}/{service}/{service}.db"

    def sql(self, service: str, statement: str) -> list[tuple]:
        database = open_database(self.location(service), schema=service)
        try:
            with database.engine.begin() as connection:
                found = connection.exec_driver_sql(statement)
                return [tuple(row) for row in found] if found.returns_rows else []
        finally:
            asyncio.run(database.close())

    def at(self, service: str) -> list[str]:
        database = open_database(self.location(service), schema=service)
        try:
            return [
                revisions(database.engine, versions, version_table=table).current
                for _, versions, table in migration_sets(service)
            ]
        finally:
            asyncio.run(database.close())

    def command(self, *arguments: str, packages: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({"TIATION_DATABASE": self.database} if self.database else {})}
        if packages is not None:
            environment["PYTHONPATH"] = str(packages)
        return subprocess.run(
            [str(TIATION), "upgrade", *arguments, "--home", str(self.home)],
            capture_output=True, text=True, timeout=60, check=False, env=environment,
        )  # fmt: skip

    def copies(self) -> list[Path]:
        return sorted(self.home.glob("before-upgrade-*"))


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    """A home on SQLite, to be copied."""
    return Stopped(tmp_path_factory.mktemp("pattern") / "home", "").home


@pytest.fixture(params=["sqlite", "postgresql"])
def stopped(request, tmp_path) -> Stopped:
    if request.param == "sqlite":
        return request.getfixturevalue("on_sqlite")
    return Stopped(tmp_path / "home", request.getfixturevalue("postgres").make_database("upgrades"))


@pytest.fixture
def later_release(tmp_path) -> Path:
    """A folder with packages of a release in which what every service has goes one revision further."""
    made = tmp_path / "later" / "mesh"
    shutil.copytree(Path(mesh.__path__[0]), made, ignore=shutil.ignore_patterns("__pycache__"))
    versions = made / "migrations" / "versions"
    (versions / "9999_later.py").write_text(LATER.format(newest=known_revisions(versions)[-1]))
    return made.parent


@pytest.fixture
def on_sqlite(pattern: Path, tmp_path) -> Stopped:
    return Stopped(Path(shutil.copytree(pattern, tmp_path / "home")), "", made=True)


def rows_of(finished: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], tuple[str, str, str]]:
    rows = json.loads(finished.stdout)["schemas"]
    return {(row["service"], row["schema"]): (row["from"], row["to"], row["what"]) for row in rows}


def test_a_schema_goes_back_is_seen_to_lag_and_comes_forward_with_its_data(stopped: Stopped):
    stopped.sql("security", "INSERT INTO policy (revision) VALUES (7)")
    newest = {service: stopped.at(service) for service in SERVICES}
    finished = stopped.command("--check")
    sets = sum(len(each) for each in newest.values())
    assert (finished.returncode, finished.stdout.count("stays")) == (0, sets), finished.stdout + finished.stderr
    back = stopped.command("--to", "security_0001", "--to", "orchestrator_0001", "--output", "json")
    assert back.returncode == 0, back.stderr
    rows = rows_of(back)
    assert rows[("security", "security")] == (newest["security"][1], "security_0001", "gone back")
    assert rows[("orchestrator", "orchestrator")] == (newest["orchestrator"][1], "orchestrator_0001", "gone back")
    assert {what for key, (_, _, what) in rows.items() if key[0] != key[1] or key[0] == "engine"} == {"stays"}
    assert stopped.at("security") == ["mesh_0001", "security_0001"]
    lagging = stopped.command("--check", "--output", "json")
    assert lagging.returncode == 1
    assert rows_of(lagging)[("security", "security")] == ("security_0001", newest["security"][1], "to go forward")
    assert stopped.at("security") == ["mesh_0001", "security_0001"]
    assert stopped.command().returncode == 0
    assert {service: stopped.at(service) for service in SERVICES} == newest
    assert (7,) in stopped.sql("security", "SELECT revision FROM policy")


def test_the_next_start_brings_up_what_was_taken_down(stopped: Stopped):
    newest = stopped.at("orchestrator")
    assert stopped.command("--to", "orchestrator_0003").returncode == 0
    assert stopped.at("orchestrator") != newest
    stopped.start()
    assert stopped.at("orchestrator") == newest


def test_what_every_service_has_moves_in_each(stopped: Stopped, later_release: Path):
    now = {service: stopped.at(service) for service in SERVICES}
    (newest,) = {revision for revision, *_ in now.values()}
    every = {(service, "mesh") for service in SERVICES}
    forward = rows_of(stopped.command("--output", "json", packages=later_release))
    assert {key for key, row in forward.items() if row == (newest, "mesh_later", "gone forward")} == every
    assert {what for key, (_, _, what) in forward.items() if key not in every} == {"stays"}
    for service in SERVICES:
        assert stopped.at(service) == ["mesh_later", *now[service][1:]]
        stopped.sql(service, "INSERT INTO later VALUES (1)")
    back = rows_of(stopped.command("--to", newest, "--output", "json", packages=later_release))
    assert {key for key, row in back.items() if row == ("mesh_later", newest, "gone back")} == every
    assert {service: stopped.at(service) for service in SERVICES} == now
    assert stopped.command("--to", "mesh_later", packages=later_release).returncode == 0  # nothing of it was left


def test_sqlite_databases_are_copied_aside_before_and_only_those_that_move(on_sqlite: Stopped):
    on_sqlite.sql("security", "INSERT INTO policy_changes VALUES (1, 'Role', 'admin')")
    newest = on_sqlite.at("security")[1]
    finished = on_sqlite.command("--to", "security_0001")
    (copies,) = on_sqlite.copies()
    assert str(copies) in finished.stdout
    (copy,) = [path for path in copies.rglob("*") if path.is_file()]
    assert copy.relative_to(copies).as_posix() == "security/security.db"
    assert [path.stat().st_mode & 0o077 for path in (copies, copy)] == [0, 0]
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT name FROM policy_changes").fetchall() == [("admin",)]
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)]
    on_sqlite.command()
    assert len(on_sqlite.copies()) == 2
    on_sqlite.command()
    assert len(on_sqlite.copies()) == 2


def test_on_postgresql_a_backup_is_advised_and_the_password_never_shown(postgres, tmp_path):
    stopped = Stopped(tmp_path / "home", postgres.make_database("upgrades"))
    finished = stopped.command("--to", "security_0001")
    assert "tiation backup" in finished.stderr
    assert stopped.copies() == []
    stopped.database = f"{postgres.url.removesuffix('tiation')}nowhere"
    refused = stopped.command()
    assert refused.returncode == 1
    assert "nowhere" in refused.stderr
    for text in (finished.stdout, finished.stderr, refused.stderr):
        assert PASSWORD not in text
        assert "s3cret" not in text


def test_a_newer_release_s_database_gets_one_clear_error_and_nothing_moves(stopped: Stopped):
    stopped.command("--to", "security_0001")
    stopped.sql("analytics", "UPDATE alembic_version SET version_num = 'analytics_0999'")
    for arguments in ((), ("--check",), ("--to", "security_0002")):
        finished = stopped.command(*arguments)
        assert finished.returncode == 1
        assert "analytics_0999" in finished.stderr
        assert "a newer one made it" in finished.stderr
        assert finished.stderr.count("\n") == 1
    assert stopped.at("security") == ["mesh_0001", "security_0001"]


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (("security_0099",), "there is no revision `security_0099`; this release knows "),
        (("",), "there is no revision ``"),
        (("security_0001", "security_0002"), "two revisions of one schema"),
    ],
)
def test_targets_that_name_nothing_are_refused(on_sqlite: Stopped, targets, said):
    finished = on_sqlite.command(*(word for target in targets for word in ("--to", target)))
    assert finished.returncode == 1
    assert said in finished.stderr
    assert on_sqlite.copies() == []


def test_a_platform_that_runs_keeps_its_schemas(on_sqlite: Stopped):
    newest = on_sqlite.at("security")
    holding = Home(on_sqlite.home).hold()
    try:
        finished = on_sqlite.command("--to", "security_0001")
        assert finished.returncode == 1
        assert "`tiation down` stops it" in finished.stderr
        assert on_sqlite.command("--check").returncode == 0
    finally:
        os.close(holding)
    assert on_sqlite.at("security") == newest


def test_a_damaged_database_is_named(on_sqlite: Stopped):
    (on_sqlite.home / "engine" / "engine.db").write_bytes(b"no database" * 1000)
    finished = on_sqlite.command()
    assert finished.returncode == 1
    assert "engine.db cannot be read" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_folder_that_is_no_home_is_said_to_be_none(tmp_path):
    finished = subprocess.run(
        [str(TIATION), "upgrade", "--home", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 1
    assert "no home" in finished.stderr
    assert list(tmp_path.iterdir()) == []
