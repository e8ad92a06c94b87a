"""Every migration of every service goes back and forth with data in the tables, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa

from mesh.config import SERVICES
from mesh.db import Database, open_database
from mesh.migrate import migrate
from mesh.revisions import NOTHING, MigrationError, move, revisions

CLONE = Path(__file__).parents[3]
MESH = CLONE / "mesh" / "migrations" / "versions"
ROWS = 3
Rows: TypeAlias = dict[str, list[dict[str, Any]]]


def folder_of(service: str) -> Path:
    return CLONE / service / "migrations" / "versions"


def ways() -> Iterator[tuple[str, str, str, str]]:
    """Of each service and set: back to each revision and to nothing."""
    for service in SERVICES:
        for table, folder in (("mesh_version", MESH), ("alembic_version", folder_of(service))):
            if not folder.is_dir():
                continue
            for path in sorted(folder.glob("[0-9]*.py")):
                line = next(text for text in path.read_text().splitlines() if text.startswith("down_revision"))
                target = line.partition("= ")[2].strip('"')
                yield service, table, path.stem, NOTHING if target == "None" else target


WAYS = list(ways())


def sets(service: str) -> dict[str, Path]:
    """The sets of migrations in a service's database, by version table, in the order in which they are run."""
    found = {"mesh_version": MESH}
    return found | ({"alembic_version": folder_of(service)} if folder_of(service).is_dir() else {})


@pytest.fixture
async def database(place):
    made = open_database(place.location, schema=place.schema)
    yield made
    await made.close()


def newest(database: Database, service: str) -> None:
    for table, folder in sets(service).items():
        migrate(database.engine, folder, version_table=table)


def tables(database: Database) -> dict[str, sa.Table]:
    metadata = sa.MetaData()
    metadata.reflect(database.engine)
    return {name: table for name, table in metadata.tables.items() if name not in ("mesh_version", "alembic_version")}


def a_value(column: sa.Column[Any], number: int) -> object:
    kind = column.type.python_type
    if kind is bool:
        return number % 2 == 0
    if kind in (int, float):
        return kind(number + 2)
    return f"{column.name}-{number}".encode() if kind is bytes else f"{column.name}-{number}"


def fill(database: Database) -> None:
    """Put rows in every table; each column of each row is set."""
    with database.engine.begin() as connection:
        for table in tables(database).values():
            for number in range(ROWS):
                connection.execute(sa.insert(table), {c.name: a_value(c, number) for c in table.columns})


def content(database: Database) -> Rows:
    with database.engine.connect() as connection:
        return {
            name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for name, table in tables(database).items()
        }


def shape(database: Database) -> dict[str, Any]:
    """The whole schema, but for the order of columns, which a way back and forth may change."""
    inspector = sa.inspect(database.engine)
    return {
        name: (
            sorted((c["name"], str(c["type"]), c["nullable"], getattr(c["type"], "collation", None))
                   for c in inspector.get_columns(name)),
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((str(i["name"]), i["column_names"], bool(i["unique"]),
                    sorted(str(value) for value in i.get("dialect_options", {}).values()))
                   for i in inspector.get_indexes(name)),
        )
        for name in inspector.get_table_names()
    }  # fmt: skip


@pytest.mark.parametrize(("service", "table", "name", "target"), WAYS, ids=[f"{w[0]}-{w[2]}" for w in WAYS])
async def test_a_migration_goes_back_and_forth_and_keeps_what_both_schemas_have(database, service, table, name, target):
    newest(database, service)
    before, known = shape(database), revisions(database.engine, sets(service)[table], version_table=table).known
    fill(database)
    held = content(database)
    move(database.engine, [(sets(service)[table], table, target)])
    now = revisions(database.engine, sets(service)[table], version_table=table).current
    assert now == ("" if target == NOTHING else target)
    between = content(database)
    check_kept(held, between, between)
    newest(database, service)
    assert shape(database) == before
    assert revisions(database.engine, sets(service)[table], version_table=table).current == known[-1]
    check_kept(held, between, content(database))


def check_kept(held: Rows, between: Rows, found: Rows) -> None:
    """What both schemas have is what it was: every row of every table that was there all along, in its columns."""
    for name, rows in between.items():
        assert len(rows) == len(found[name]) == len(held[name]) >= ROWS, name
        kept = sorted(set(rows[0]) & set(held[name][0]))
        wanted = sorted(repr([row[key] for key in kept]) for row in held[name])
        assert sorted(repr([row[key] for key in kept]) for row in found[name]) == wanted


@pytest.mark.parametrize("service", ["security"])
async def test_both_sets_of_a_database_move_together_or_not_at_all(database, service, tmp_path):
    newest(database, service)
    (tmp_path / "1.py").write_text(
        'revision = "x1"\ndown_revision = None\ndef upgrade():\n    raise RuntimeError("no")\n'
    )
    fill(database)
    before, at = content(database), revisions(database.engine, folder_of(service)).current
    steps = [(folder_of(service), "alembic_version", "security_0001"), (tmp_path, "x_version", "x1")]
    with pytest.raises(RuntimeError, match="no"):
        move(database.engine, steps)
    assert content(database) == before
    assert revisions(database.engine, folder_of(service)).current == at


async def test_a_revision_that_nobody_knows_is_refused(database):
    newest(database, "security")
    with pytest.raises(MigrationError, match="no revision `security_0099`; known are security_0001, "):
        move(database.engine, [(folder_of("security"), "alembic_version", "security_0099")])


async def test_the_database_of_a_newer_release_is_left_alone(database):
    newest(database, "security")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'security_0999'")
    with pytest.raises(MigrationError, match=r"security_0999.* a newer one made it"):
        move(database.engine, [(folder_of("security"), "alembic_version", "security_0001")])
    assert revisions(database.engine, folder_of("security")).is_of_newer_release


async def test_a_database_that_nobody_has_migrated_stands_nowhere(database):
    found = revisions(database.engine, folder_of("security"))
    assert (found.current, found.is_of_newer_release) == ("", False)
