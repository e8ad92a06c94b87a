"""PostgreSQL as a setting: its URL, waiting for it, what is wrong with it, and schemas that mean what SQLite's mean."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from mesh.config import Settings, SettingsError, load_settings
from mesh.db import (
    DatabaseRefusedError,
    DatabaseUnavailableError,
    DatabaseUrlError,
    address_of,
    await_database,
    open_database,
    postgres_url,
)
from mesh.migrate import migrate
from tests.fakes.ports import free_ports
from tests.fakes.postgres import PASSWORD

CLONE = Path(__file__).parents[3]
MESH = CLONE / "mesh" / "migrations" / "versions"
WITH_MIGRATIONS = sorted(path.parent.parent.parent.name for path in CLONE.glob("*/migrations/versions/*.py"))


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_one_driver_is_used_whichever_the_url_names(driver):
    url = postgres_url(f"{driver}://me:p%40ss@db.example:6432/tiation?ssl=require")
    assert (url.drivername, url.password, url.query["sslmode"]) == ("postgresql+psycopg", "p@ss", "require")
    assert address_of(url) == "tiation on db.example:6432"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("mysql://me:hunter2@db/tiation", "must be like"),
        ("sqlite:///hunter2.db", "leave it empty"),
        ("postgresql://me:hunter2@x@db/tiation", "%40"),
        ("postgresql://me:hunter2:x@db:port/tiation", "must be like"),
        ("postgresql://me:hunter2@db:port/tiation", "must be like"),
        ("postgresql://me:hunter2@db", "names no database"),
        ("hunter2", "must be like"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_quoted(text, advice):
    with pytest.raises(DatabaseUrlError, match=advice) as caught:
        postgres_url(text)
    assert "hunter2" not in caught.value.message
    assert caught.value.__cause__ is None


def test_the_password_is_shown_neither_by_settings_nor_by_what_is_wrong_with_them(tmp_path):
    assert "hunter2" not in repr(Settings(database="postgresql://me:hunter2@db/x"))
    (tmp_path / "tiation.yaml").write_text("database: postgresql://me:hunter2@db: 5432/x\n")
    with pytest.raises(SettingsError, match="line 1, column") as caught:
        load_settings(tmp_path, {})
    assert "hunter2" not in caught.value.message


def test_shared_memory_is_not_there_for_several_engines(tmp_path):
    variables = {"TIATION_DATABASE": "postgresql://db/x", "TIATION_ENGINE__SHARED_MEMORY": "own"}
    assert load_settings(tmp_path, variables).engine.shared_memory == "own"
    with pytest.raises(SettingsError, match=r"engine\.shared_memory is `own`.*engine\.replicas is 2"):
        load_settings(tmp_path, {**variables, "TIATION_ENGINE__REPLICAS": "2"})
    with pytest.raises(SettingsError, match="shared_memory"):
        load_settings(tmp_path, {"TIATION_ENGINE__SHARED_MEMORY": "on"})


@pytest.mark.parametrize("service", ["engine", "orchestrator"])
def test_several_processes_of_a_service_need_postgresql(tmp_path, service):
    variables = {f"TIATION_{service.upper()}__REPLICAS": "2"}
    with pytest.raises(SettingsError, match=rf"{service}\.replicas is 2.*set `database`"):
        load_settings(tmp_path, variables)
    found = load_settings(tmp_path, {**variables, "TIATION_DATABASE": "postgresql://db/x"})
    assert getattr(found, service).replicas == 2
    with pytest.raises(SettingsError, match="from 1 to 16"):
        load_settings(tmp_path, {f"TIATION_{service.upper()}__REPLICAS": "0"})


def test_a_server_that_does_not_answer_is_waited_for_and_then_said_what_to_do():
    port = free_ports(1)[0]
    said: list[str] = []
    with pytest.raises(DatabaseUnavailableError, match=r"start PostgreSQL there, or correct `database`") as caught:
        await_database(f"postgresql://me:hunter2@127.0.0.1:{port}/x", said.append, patience_s=0.5)
    assert said == [f"waiting for the database x on 127.0.0.1:{port}"]
    assert "hunter2" not in caught.value.message


def test_a_server_that_comes_late_is_enough(postgres):
    postgres.stop()
    code = (
        "import sys; from mesh.db import await_database\n"
        "await_database(sys.argv[1], lambda text: print(text, flush=True))\n"
        "print('ready', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, postgres.url], stdout=subprocess.PIPE, text=True) as waiting:
        assert "waiting for the database" in waiting.stdout.readline()
        postgres.start()
        assert waiting.stdout.readline() == "ready\n"


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda url: url.replace("%2F", "%2f-wrong"), "check user and password"),
        (lambda url: url.replace("tiation:", "nobody:"), "check user and password"),
        (lambda url: url.removesuffix("tiation") + "missing", "CREATE DATABASE"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_not_waited_for(postgres, change, advice):
    began = time.monotonic()
    with pytest.raises(DatabaseRefusedError, match=advice) as caught:
        await_database(change(postgres.url), lambda _: None)
    assert time.monotonic() - began < 5
    assert PASSWORD not in caught.value.message


def test_a_database_that_cannot_hold_every_text_is_refused(postgres):
    with postgres.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(DatabaseRefusedError, match="ENCODING 'UTF8'"):
        await_database(postgres.url.removesuffix("tiation") + "latin", lambda _: None)


def test_a_user_who_may_not_make_the_schema_is_told_what_is_missing(postgres):
    with postgres.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    url = f"postgresql://guest:guest@127.0.0.1:{postgres.port}/tiation"
    await_database(url, lambda _: None)
    with pytest.raises(DatabaseRefusedError, match="GRANT CREATE ON DATABASE"):
        await_database(url, lambda _: None, schema="guests")
    with postgres.connect() as connection:
        connection.execute("CREATE SCHEMA guests AUTHORIZATION guest")
    await_database(url, lambda _: None, schema="guests")


def test_two_processes_that_start_at_once_make_one_schema(postgres):
    code = (
        "import sys; from pathlib import Path; from mesh.db import *; from mesh.migrate import migrate\n"
        "sys.stdin.readline()\n"
        "await_database(sys.argv[1], print, schema='at_once')\n"
        "database = open_database(sys.argv[1], schema='at_once')\n"
        "for name, table in (('mesh', 'mesh_version'), ('security', 'alembic_version')):\n"
        "    migrate(database.engine, Path(name) / 'migrations' / 'versions', version_table=table)\n"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code, postgres.url], stdin=subprocess.PIPE, text=True, cwd=CLONE)
        for _ in range(4)
    ]
    time.sleep(1)
    for start in starts:
        start.communicate("\n", timeout=60)
    assert [start.returncode for start in starts] == [0, 0, 0, 0]


@pytest.fixture
async def migrated(request, place):
    """A service's database, migrated as at its start."""
    database = open_database(place.location, schema=place.schema)
    migrate(database.engine, MESH, version_table="mesh_version")
    migrate(database.engine, CLONE / request.param / "migrations" / "versions")
    yield database
    await database.close()


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
@pytest.mark.parametrize("migrated", sorted({*WITH_MIGRATIONS} - {"mesh"}), indirect=True)
async def test_every_migration_runs_and_its_columns_mean_what_they_mean_on_sqlite(migrated):
    """Texts compare by code point though the database itself does as in a dictionary; integers have 64 bits."""
    with migrated.engine.begin() as connection:
        unlike = connection.exec_driver_sql(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND (data_type IN ('smallint', 'integer') "
            "OR (data_type IN ('text', 'character varying', 'character') AND collation_name IS DISTINCT FROM 'C'))"
        ).all()
        small = connection.exec_driver_sql(
            "SELECT sequencename FROM pg_sequences "
            "WHERE schemaname = current_schema() AND data_type <> 'bigint'::regtype"
        ).all()
        made = connection.exec_driver_sql("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()").scalar()
    assert (unlike, small) == ([], [])
    assert made > 3


ONE = """
revision = "0001"
down_revision = None
def upgrade():
    from alembic import op
    op.execute("CREATE TABLE things (name TEXT PRIMARY KEY, number INTEGER)")
"""
TWO = """
revision = "0002"
down_revision = "0001"
def upgrade():
    import sqlalchemy as sa
    from alembic import op
    op.add_column("things", sa.Column("label", sa.String(20)))
    op.create_index("things_by_label", "things", ["label"], sqlite_where=sa.text("label > 'a'"),
                    postgresql_where=sa.text("label > 'a'"))
"""


async def test_a_column_that_comes_later_and_one_made_in_plain_sql_mean_the_same_too(place, tmp_path):
    database = open_database(place.location, schema=place.schema)
    for number, source in enumerate((ONE, TWO)):
        (tmp_path / f"{number}.py").write_text(source)
        migrate(database.engine, tmp_path)
    names = ["a/x", "a0", "a-b", "B", "b", "é", "Z"]

    def fill(connection):
        for name in names:
            connection.execute(text("INSERT INTO things VALUES (:a, :n, :b)"), {"a": name, "b": name, "n": 2**40})

    await database.write(fill)
    for column in ("name", "label"):
        ordered = await database.read(
            lambda c, by=column: [row[0] for row in c.execute(text(f"SELECT name FROM things ORDER BY {by}"))]
        )
        assert ordered == sorted(names)
        between = text(f"SELECT count(*) FROM things WHERE {column} > 'a/' AND {column} < 'a0'")
        assert await database.read(lambda c, what=between: c.execute(what).scalar()) == 1
    await database.close()
