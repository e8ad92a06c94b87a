"""The relay: every record arrives, whatever breaks; soon after a quiet time, many together while they keep coming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import grpc.aio
import pytest
from sqlalchemy import text
from tiation.mesh.v1 import call_record_pb2
from tiation.security.v1 import record_pb2, record_pb2_grpc

import mesh.record
from mesh.db import Database, open_database
from mesh.migrate import migrate
from mesh.record import Ended, Recorder, Relay
from mesh.spool import Spool
from tests.fakes.background import running

VERSIONS = Path(mesh.record.__file__).parent / "migrations" / "versions"


class Security(record_pb2_grpc.RecordServiceServicer):
    """Takes records, or is away.

    Attributes:
        shipments: the uids of each shipment, and when it came.
        away: true to refuse.
        silent: true to take records and never say so.
    """

    def __init__(self) -> None:
        self.shipments: list[tuple[float, list[str]]] = []
        self.away = False
        self.silent = False

    async def AppendRecords(self, request, context):
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.shipments.append((time.monotonic(), [record.uid for record in request.records]))
        if self.silent:
            await asyncio.sleep(60)
        return record_pb2.AppendRecordsResponse(stored=len(request.records))

    @property
    def arrived(self) -> list[str]:
        return [uid for _, uids in self.shipments for uid in uids]


class Line:
    """The way to it, as `mesh.channel.Channels` gives it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def stub(self, stub: Callable[[grpc.aio.Channel], object], service: str) -> object:
        assert service == "security"
        return stub(self._channel)


class Service:
    """What a service has of the mesh here: its spool, its recorder and its relay."""

    def __init__(self, folder: Path, database: Database, line: Line) -> None:
        self.spool = Spool(folder)
        self.database = database
        self.recorder = Recorder("engine", database, self.spool)
        self.relay = Relay(self.recorder, database, line)

    def read(self, uid: str, size: int = 0) -> None:
        """Keep the record of a call that changed nothing, in the file."""
        record = call_record_pb2.CallRecord(uid=uid, service="engine", reason="x" * size)
        self.spool.append(record.SerializeToString())
        self.recorder.arrived.set()

    async def end(self, run: str) -> None:
        """Keep the record of something that has ended, in the table."""
        ended = Ended("Run/SUCCEEDED", "default", "me", "", run, time.time_ns(), 5)
        await self.database.write(lambda connection: self.recorder.note(connection, ended))

    async def left(self) -> int:
        """How many records wait in the table."""
        return await self.database.read(lambda connection: connection.execute(text(COUNT)).scalar_one())


COUNT = "SELECT count(*) FROM call_records"


@pytest.fixture
async def security() -> AsyncIterator[tuple[Security, Line]]:
    server, there = grpc.aio.server(), Security()
    record_pb2_grpc.add_RecordServiceServicer_to_server(there, server)
    port = server.add_insecure_port("localhost:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        yield there, Line(channel)
    await server.stop(None)


@pytest.fixture
async def service(place, tmp_path, security) -> AsyncIterator[Service]:
    database = open_database(place.location, schema=place.schema)
    await asyncio.to_thread(migrate, database.engine, VERSIONS, version_table="mesh_version")
    made = Service(tmp_path, database, security[1])
    yield made
    made.spool.close()
    await database.close()


@asynccontextmanager
async def relaying(service: Service) -> AsyncIterator[None]:
    async with running(service.relay.run):
        yield


async def until(there: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not there():
            await asyncio.sleep(0.01)


async def test_records_of_both_kinds_arrive_and_are_forgotten_here(service: Service, security):
    service.read("one")
    await service.end("runs/r")
    service.read("two")
    await service.relay.ship_rest()
    assert len(security[0].arrived) == 3
    assert [uid for uid in security[0].arrived if uid in {"one", "two"}] == ["one", "two"]
    assert await service.left() == 0
    before = len(security[0].shipments)
    await service.relay.ship_rest()
    assert len(security[0].shipments) == before


async def test_everything_arrives_at_once_when_more_waits_than_fits_into_one_message(service: Service, security):
    uids = [f"r{number}" for number in range(1205)]
    for uid in uids:
        service.read(uid)
    large = [f"large{number}" for number in range(5)]
    for uid in large:
        service.read(uid, 2_500_000)
    await service.relay.ship_all()
    assert security[0].arrived == uids + large
    assert max(len(uids) for _, uids in security[0].shipments) == 500
    assert [len(uids) for _, uids in security[0].shipments[-4:]] == [1, 1, 1, 1]


async def test_what_could_not_be_shipped_waits_and_arrives_in_order(service: Service, security):
    security[0].away = True
    for number in range(3):
        service.read(f"r{number}")
        with pytest.raises(grpc.aio.AioRpcError):
            await service.relay.ship_all()
    assert await service.left() >= 2  # the table, not a disk that may go with the process
    security[0].away = False
    service.read("r3")
    await service.relay.ship_all()
    assert security[0].arrived == ["r0", "r1", "r2", "r3"]


async def test_a_relay_that_is_cut_off_ships_the_same_records_again_and_all_that_came_since(service: Service, security):
    security[0].silent = True
    service.read("one")
    cut_off = asyncio.create_task(service.relay.ship_all())
    await until(lambda: security[0].arrived)
    service.read("two")
    await service.end("runs/r")
    cut_off.cancel()
    with suppress(asyncio.CancelledError):
        await cut_off
    security[0].silent = False
    await service.relay.ship_rest()
    arrived = security[0].arrived
    assert len(arrived) == 4
    assert [uid for uid in arrived if uid in {"one", "two"}] == ["one", "one", "two"]
    assert await service.left() == 0


async def test_what_a_process_that_died_left_in_the_table_is_found(service: Service, security, monkeypatch):
    monkeypatch.setattr(mesh.record, "_LOOK_AGAIN_S", 0.2)
    record = call_record_pb2.CallRecord(uid="left", service="engine").SerializeToString()
    async with relaying(service):
        await asyncio.sleep(0.1)
        statement = text("INSERT INTO call_records (record) VALUES (:record)")
        await service.database.write(lambda connection: connection.execute(statement, {"record": record}))
        await until(lambda: security[0].arrived == ["left"])


async def test_after_a_quiet_time_a_record_leaves_soon(service: Service, security):
    async with relaying(service):
        await asyncio.sleep(0.5)
        began = time.monotonic()
        service.read("one")
        await until(lambda: security[0].arrived)
        assert security[0].shipments[0][0] - began < 0.9


async def test_while_records_keep_coming_shipments_are_a_second_apart(service: Service, security):
    async with relaying(service):
        for number in range(320):
            service.read(f"r{number}")
            await asyncio.sleep(0.01)
        await until(lambda: len(security[0].arrived) == 320)
    times = [at for at, _ in security[0].shipments]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) > 2
    assert min(gaps[1:-1]) > 0.9
    assert len(set(security[0].arrived)) == 320
