"""Integration's composition root."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

import structlog
from tiation.integration.v1 import connection_pb2_grpc, fetch_pb2_grpc, webhook_pb2_grpc

from integration.adapters.egress import Guard
from integration.adapters.fetches import OutsideFetches
from integration.adapters.grpc_client import GrpcClient
from integration.adapters.http import HttpConnector
from integration.adapters.http_client import HttpClient
from integration.adapters.runs import OrchestratorRuns
from integration.adapters.server_place import Servers
from integration.adapters.sql import SqlConnector
from integration.adapters.webhook import WebhookConnector
from integration.connections import ConnectionRules
from integration.deliveries import Deliveries
from integration.effects import EffectLog
from integration.invoke import Invoker
from integration.manifest import MAX_BYTES
from integration.pacing import Pacer
from integration.servicers.connections import ConnectionServicer
from integration.servicers.fetches import FetchServicer
from integration.servicers.webhooks import WebhookServicer
from integration.store import DeliveryStore, IntegrationStore
from integration.tokens import TokenKeeper
from integration.vault import Vault
from integration.webhooks import MAX_TOLERANCE_S, Receiver, WebhookRules
from mesh.catalogue import Catalogue
from mesh.db import Database
from mesh.entry_store import EntryStore
from mesh.service import Mesh, Service

__all__ = ["build"]

_FORGET_EVERY_S = 3600.0
_REPEATED_S = 2 * MAX_TOLERANCE_S
"""A signature may hold for so long: a repeat must be known until then, however little else is kept."""


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.integration
    folder = Path(settings.sqlite_folder) if settings.sqlite_folder else mesh.state / "data"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = Guard.of(settings.allowed_hosts, settings.allowed_networks, private=settings.private_networks)
    rows = IntegrationStore()
    vault = Vault(mesh.state / "vault.key")
    client = HttpClient(guard)
    sql = SqlConnector(folder, settings.sql_drivers, Servers(guard))
    spans = mesh.tracer.ended if mesh.settings.tracing.endpoint else None
    http = HttpConnector(client, TokenKeeper(mesh.database, rows, vault), vault, mesh.sandbox, spans)
    rules = ConnectionRules({"sql": sql, "http": http, "webhook": WebhookConnector(client)}, mesh.sandbox)
    effects = EffectLog(mesh.database, rows)
    invoker = Invoker(rules, vault, mesh.sandbox, Pacer(mesh.database, rows), effects)
    fetches = OutsideFetches(client, GrpcClient(guard, MAX_BYTES), MAX_BYTES, spans)
    catalogue = Catalogue(mesh.database, EntryStore())
    accepted = DeliveryStore()
    deliveries = Deliveries(mesh.database, accepted, OrchestratorRuns(mesh.channels))
    receiver = Receiver(vault, mesh.sandbox, deliveries)
    forgetting = _Forgetting(mesh.database, rows, accepted, settings.effects_kept_s)

    async def stop() -> None:
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
            (
                webhook_pb2_grpc.add_WebhookServiceServicer_to_server,
                WebhookServicer(catalogue, mesh.pages, WebhookRules(mesh.sandbox), vault, receiver),
            ),
        ),
        background=(deliveries.run, forgetting.run),
        stop=stop,
    )


class _Forgetting:
    """Forgets old effects, tokens, limits and deliveries once an hour."""

    def __init__(self, database: Database, rows: IntegrationStore, deliveries: DeliveryStore, kept_s: float) -> None:
        self._database = database
        self._rows = rows
        self._deliveries = deliveries
        self._kept_s = kept_s

    async def run(self) -> None:
        """Forget for ever."""
        while True:
            before = time.time() - self._kept_s
            try:
                await self._database.write(partial(self._rows.forget, before=before), durable=False)
                known = min(before, time.time() - _REPEATED_S)
                await self._database.write(partial(self._deliveries.forget, before=known), durable=False)
            except Exception as error:  # noqa: BLE001 -- what is not forgotten now is forgotten in an hour
                structlog.get_logger("integration.app").warning("old effects not forgotten", error=str(error))
            await asyncio.sleep(_FORGET_EVERY_S)
