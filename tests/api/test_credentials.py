"""Credentials of connections: sealed before they are kept, and never shown to anybody again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from google.protobuf import json_format
from tiation.integration.v1 import connection_pb2 as pb
from tiation.integration.v1 import connection_pb2_grpc

from tests.fakes.platform import Platform, platform

SECRETS = ("hunter2-first-secret", "correct-horse-second-secret")
PLAIN = "well-known-name.db"


@pytest.fixture
async def here(tmp_path):
    async with platform(tmp_path, ("security", "integration")) as made:
        yield made


def files_with(home: Path, text: str) -> list[str]:
    """Every file below the home in which a text stands as it is."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 5
    return sorted(str(path.relative_to(home)) for path in files if text.encode() in path.read_bytes())


async def test_no_file_holds_a_credential_as_it_was_sent(here: Platform):
    metadata = [await here.token()]
    connection = pb.Connection(connector="sql", credentials={"username": "ann", "password": SECRETS[0]})
    json_format.ParseDict({"url": f"sqlite:///{PLAIN}"}, connection.config)
    async with here.channel("integration") as channel:
        stub = connection_pb2_grpc.ConnectionServiceStub(channel)
        request = pb.CreateConnectionRequest(parent="tenants/default", connection_id="crm", connection=connection)
        made = await stub.CreateConnection(request, metadata=metadata)
        change = pb.Connection(name=made.name, credentials={"password": SECRETS[1]})
        changed = await stub.UpdateConnection(
            pb.UpdateConnectionRequest(connection=change, update_mask={"paths": ["credentials"]}), metadata=metadata
        )
        listed = await stub.ListConnections(pb.ListConnectionsRequest(parent="tenants/default"), metadata=metadata)
    for shown in (made, changed, *listed.connections):
        assert dict(shown.credentials) == {}
        assert list(shown.credential_names) == ["password", "username"]
    assert [
        path for path in files_with(here.home, PLAIN) if path.startswith("integration/")
    ]  # the search finds what is there
    for secret in SECRETS:
        assert files_with(here.home, secret) == []


async def test_the_row_of_a_connection_holds_its_credentials_sealed(here: Platform):
    async with here.channel("integration") as channel:
        request = pb.CreateConnectionRequest(
            parent="tenants/default",
            connection_id="crm",
            connection=pb.Connection(connector="sql", credentials={"password": SECRETS[0]}),
        )
        json_format.ParseDict({"url": f"sqlite:///{PLAIN}"}, request.connection.config)
        await connection_pb2_grpc.ConnectionServiceStub(channel).CreateConnection(
            request, metadata=[await here.token()]
        )
    await here.stop("integration")
    database = sqlite3.connect(here.home / "integration" / "integration.db")
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [str(row) for table in tables for row in database.execute(f"SELECT * FROM {table}")]
    finally:
        database.close()
    (kept,) = [row for row in rows if PLAIN in row and "sealed" in row]
    assert '"sealed":""' not in kept
    assert not [row for row in rows if SECRETS[0] in row]
