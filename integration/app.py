"""Integration's composition root."""

from __future__ import annotations

from pathlib import Path

from tiation.integration.v1 import connection_pb2_grpc

from integration.adapters.sql import SqlConnector
from integration.connections import ConnectionRules
from integration.invoke import Invoker
from integration.servicers.connections import ConnectionServicer
from integration.vault import Vault
from mesh.catalogue import Catalogue
from mesh.entry_store import EntryStore
from mesh.service import Mesh, Service

__all__ = ["build"]


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.integration
    folder = Path(settings.sqlite_folder) if settings.sqlite_folder else mesh.state / "data"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sql = SqlConnector(folder, settings.sql_drivers)
    rules = ConnectionRules({"sql": sql}, mesh.sandbox)
    vault = Vault(mesh.state / "vault.key")
    invoker = Invoker(rules, vault, mesh.sandbox)
    servicer = ConnectionServicer(Catalogue(mesh.database, EntryStore()), mesh.pages, rules, vault, invoker)
    return Service(
        servicers=((connection_pb2_grpc.add_ConnectionServiceServicer_to_server, servicer),),
        stop=sql.close,
    )
