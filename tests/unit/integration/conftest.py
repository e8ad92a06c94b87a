"""What integration's tests stand on: a sandbox, a migrated database, and connections without a service around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import integration
import mesh
from integration.adapters.egress import Guard, resolve
from integration.adapters.http import HttpConnector
from integration.adapters.http_client import HttpClient
from integration.connections import Connection, ConnectionRules, Operation, Retry
from integration.effects import EffectLog
from integration.invoke import Invocation, Invoker
from integration.pacing import Pacer
from integration.store import IntegrationStore
from integration.tokens import TokenKeeper
from integration.vault import Vault
from mesh.db import Database, open_database
from mesh.entries import Entry
from mesh.migrate import migrate
from mesh.sandbox import SandboxPool

NAME = "tenants/default/connections/shop"
QUICK = Retry(3, 0.01, 0.02)
LOCAL = Guard.of([], ["127.0.0.0/8", "::1/128"], private=False)


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxPool]:
    """A sandbox on the test's own loop."""
    made = SandboxPool()
    yield made
    await made.close()


def opened(url: str) -> Database:
    """Integration's database, migrated."""
    database = open_database(url)
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(integration.__path__[0]) / "migrations" / "versions")
    return database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database of the test's own."""
    made = opened(f"sqlite:///{tmp_path}/integration.db")
    yield made
    await made.close()


@dataclass
class Bench:
    """The invoker with everything that it stands on, without a service around it."""

    invoker: Invoker
    rules: ConnectionRules
    vault: Vault
    client: HttpClient
    connector: HttpConnector
    entries: dict[str, Entry[Connection]] = field(default_factory=dict)

    async def connect(
        self,
        config: dict[str, Any],
        credentials: dict[str, str] | None = None,
        *,
        retry: Retry = QUICK,
        revision: int = 1,
        **operations: dict[str, Any],
    ) -> Entry[Connection]:
        """A connection, checked as a service checks it."""
        kinds = {"effect", "input", "output", "timeout_s"}
        made = tuple(
            Operation(
                operation_id,
                {name: part for name, part in said.items() if name not in kinds},
                **{"effect": "NONE"} | {name: part for name, part in said.items() if name in kinds},
            )
            for operation_id, said in operations.items()
        )
        given = credentials or {}
        connection = Connection("http", config, self.vault.seal("default", NAME, given), tuple(given), made, retry)
        await self.rules.check(NAME, connection, given)
        now = datetime.now(UTC)
        return Entry(NAME, "uid-of-shop", revision, now, now, connection)

    async def invoke(
        self, entry: Entry[Connection], operation: str, value: Any = None, key: str = "", patience_s: float = 30.0
    ) -> Invocation:
        """Carry out an operation."""
        return await self.invoker.invoke(entry, operation, value, key, patience_s)


def bench_on(
    database: Database, sandbox: SandboxPool, key_file: Path, guard: Guard = LOCAL, resolver: Any = resolve
) -> Bench:
    """A bench on a database."""
    rows, vault = IntegrationStore(), Vault(key_file)
    client = HttpClient(guard, resolver)
    connector = HttpConnector(client, TokenKeeper(database, rows, vault), vault, sandbox)
    rules = ConnectionRules({"http": connector}, sandbox)
    invoker = Invoker(rules, vault, sandbox, Pacer(database, rows), EffectLog(database, rows))
    return Bench(invoker, rules, vault, client, connector)


@pytest.fixture
async def bench(database: Database, sandbox: SandboxPool, tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench whose guard allows loopback."""
    made = bench_on(database, sandbox, tmp_path / "vault.key")
    yield made
    await made.connector.close()
