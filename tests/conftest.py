"""What tests of every kind may stand on: one PostgreSQL for a session, and a place for a database on either kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import hypothesis
import pytest

from tests.fakes.postgres import Postgres, postgres_server

# What a busy machine takes for an example says nothing about the code.
hypothesis.settings.register_profile("calm", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("calm")


@dataclass(frozen=True)
class Place:
    """Where a database of the test's own is: what `mesh.db.open_database` takes."""

    location: str
    schema: str

    @property
    def is_sqlite(self) -> bool:
        """True for a file, false for a schema."""
        return self.location.startswith("sqlite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs until the session ends; tests that stop it start it again."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path) -> Iterator[Place]:
    """A place for a database, on each kind in turn."""
    if request.param == "sqlite":
        yield Place(f"sqlite:///{tmp_path}/test.db", "")
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.schema() as schema:
        yield Place(server.url, schema)
