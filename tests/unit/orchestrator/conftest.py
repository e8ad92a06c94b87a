"""What the orchestrator's tests stand on: one sandbox for a module, a migrated database for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import mesh
import orchestrator
from mesh.db import Database, open_database
from mesh.migrate import migrate
from mesh.sandbox import SandboxPool
from tests.unit.orchestrator.databases import both, postgresql

__all__ = ["both", "postgresql"]


class Stage:
    """An event loop of its own with a sandbox on it, for tests that run many short things."""

    def __init__(self, runner: asyncio.Runner, sandbox: SandboxPool) -> None:
        self._runner = runner
        self.sandbox = sandbox

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self._runner.run(work)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One loop and one sandbox for a module."""
    with asyncio.Runner() as runner:
        sandbox = SandboxPool()
        yield Stage(runner, sandbox)
        runner.run(sandbox.close())


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxPool]:
    """A sandbox on the test's own loop."""
    made = SandboxPool()
    yield made
    await made.close()


def opened(location: str, schema: str = "") -> Database:
    """The orchestrator's database, migrated."""
    database = open_database(location, schema=schema)
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(orchestrator.__path__[0]) / "migrations" / "versions")
    return database


@pytest.fixture
async def database(place) -> AsyncIterator[Database]:
    """A database of the test's own, on each kind in turn."""
    made = opened(place.location, place.schema)
    yield made
    await made.close()


@pytest.fixture
async def second_database(database: Database, place) -> AsyncIterator[Database]:
    """The same database as another process has it."""
    made = open_database(place.location, schema=place.schema)
    yield made
    await made.close()
