"""Integration's composition root."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog
from tiation.integration.v1 import connection_pb2_grpc, fetch_pb2_grpc

from integration.adapters.egress import Guard
from integration.adapters.fetches import OutsideFetches
from integration.adapters.grpc_client import GrpcClient
from integration.adapters.http import HttpConnector
from integration.adapters.http_client import HttpClient
from integration.adapters.sql import SqlConnector
from integration.connections import ConnectionRules
from integration.effects import EffectLog
from integration.invoke import Invoker
from integration.manifest import MAX_BYTES
from integration.pacing import Pacer
from integration.servicers.connections import ConnectionServicer
from integration.servicers.fetches import FetchServicer
from integration.store import IntegrationStore
from integration.tokens import TokenKeeper
from integration.vault import Vault
from mesh.catalogue import Catalogue
from mesh.db import Database
from mesh.entry_store import EntryStore
from mesh.service import Mesh, Service

__all__ = ["build"]

_FORGET_EVERY_S = 3600.0


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.integration
    folder = Path(settings.sqlite_folder) if settings.sqlite_folder else mesh.state / "data"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = Guard.of(settings.allowed_hosts, settings.allowed_networks, private=settings.private_networks)
    rows = IntegrationStore()
    vault = Vault(mesh.state / "vault.key")
    client = HttpClient(guard)
    sql = SqlConnector(folder, settings.sql_drivers)
    spans = mesh.tracer.ended if mesh.settings.tracing.endpoint else None
    http = HttpConnector(client, TokenKeeper(mesh.database, rows, vault), vault, mesh.sandbox, spans)
    rules = ConnectionRules({"sql": sql, "http": http}, mesh.sandbox)
    effects = EffectLog(mesh.database, rows)
    invoker = Invoker(rules, vault, mesh.sandbox, Pacer(mesh.database, rows), effects)
    fetches = OutsideFetches(client, GrpcClient(guard, MAX_BYTES), MAX_BYTES)
    catalogue = Catalogue(mesh.database, EntryStore())
    forgetting = _Forgetting(mesh.database, rows, settings.effects_kept_s)

    async def stop() -> None:
        await forgetting.stop()
        await effects.close()
        await sql.close()
        await http.close()

    return Service(
        servicers=(
            (
                connection_pb2_grpc.add_ConnectionServiceServicer_to_server,
                ConnectionServicer(catalogue, mesh.pages, rules, vault, invoker),
            ),
            (fetch_pb2_grpc.add_FetchServiceServicer_to_server, FetchServicer(fetches, effects)),
        ),
        start=forgetting.start,
        stop=stop,
    )


class _Forgetting:
    """Forgets old effects, tokens and limits once an hour."""

    def __init__(self, database: Database, rows: IntegrationStore, kept_s: float) -> None:
        self._database = database
        self._rows = rows
        self._kept_s = kept_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            before = time.time() - self._kept_s
            try:
                await self._database.write(partial(self._rows.forget, before=before), durable=False)
            except Exception as error:  # noqa: BLE001 -- what is not forgotten now is forgotten in an hour
                structlog.get_logger("integration.app").warning("old effects not forgotten", error=str(error))
            await asyncio.sleep(_FORGET_EVERY_S)
