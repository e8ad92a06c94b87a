"""Call records: kept in the service's own database or file before the answer leaves, then shipped to security.

A write's record commits with the change itself. What security does with the records lives there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import grpc.aio
import structlog
from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, Table, delete, insert, select
from tiation.mesh.v1 import call_record_pb2
from tiation.security.v1 import record_pb2, record_pb2_grpc

from mesh.call import Call, call_in_progress
from mesh.channel import Channels
from mesh.db import Database
from mesh.errors import TiationError
from mesh.linger import Linger
from mesh.spool import Spool
from mesh.uuid7 import uuid7

__all__ = ["Ended", "Recorder", "Relay"]

_metadata = MetaData()
_records = Table(
    "call_records",
    _metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("record", LargeBinary, nullable=False),
)
_INSERT = insert(_records)
_MAX_BATCH = 500
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_LINGER_S, _LONGEST_LINGER_S = 0.25, 1.0
_MAX_PAUSE_S = 5.0
_LOOK_AGAIN_S, _LONGEST_LOOK_AGAIN_S = 2.0, 30.0
"""Word of a record may come before its transaction is committed, and another process may have died with some."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Something that has ended and was no call, told like one.

    Attributes:
        what: stands where a call's method does, for example `tiation.orchestrator.v1.Run/SUCCEEDED`.
        tenant: whose it was, by id.
        subject: on whose behalf it was done.
        actor: who did it, for example an agent.
        resource: what has ended.
        start_ns: when it began, wall clock, nanoseconds.
        duration_ns: how long it took.
        code: how it ended, a `google.rpc.Code`.
        reason: the error's; empty on success.
        usage: what it used up, by unit.
    """

    what: str
    tenant: str
    subject: str
    actor: str
    resource: str
    start_ns: int
    duration_ns: int
    code: int = 0
    reason: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)


class Recorder:
    """Keeps the record of every call: with the change it made, or in the spool file.

    Args:
        service: the service's name.
        database: the service's own database.
        spool: where records of calls without a change go first.

    Attributes:
        arrived: set when a record was kept.
        tabled: true where one may have gone to the table.
    """

    def __init__(self, service: str, database: Database, spool: Spool) -> None:
        self.service = service
        self._database = database
        self._spool = spool
        self.arrived = asyncio.Event()
        self.tabled = True
        self._loop = asyncio.get_running_loop()
        database.companion = self._companion
        database.committed = self._kept_with_change

    def _companion(self) -> Callable[[Connection], None] | None:
        """What a write takes along: the record of the call that made it, once a call."""
        call = call_in_progress()
        if call is None or call.kept or not call.method.recorded:
            return None

        def keep_with_change(connection: Connection) -> None:
            if not call.kept:
                connection.execute(_INSERT, {"record": call.to_record(self.service).SerializeToString()})

        return keep_with_change

    def _kept_with_change(self) -> None:
        """Note that a write has committed the current call's record."""
        call = call_in_progress()
        if call is not None:
            call.kept = True
            self._table_grew()

    def keep(self, call: Call) -> None:
        """Keep the record of a call that ends now, unless a write has kept it with the same outcome.

        Raises:
            DatabaseFullError: no room is left for it.
        """
        if call.kept and call.code == 0:
            return
        self._spool.append(call.to_record(self.service).SerializeToString())
        call.kept = True
        self.arrived.set()

    def note(self, connection: Connection, ended: Ended) -> None:
        """Keep a record of something that has ended, in the transaction that ends it."""
        record = call_record_pb2.CallRecord(
            uid=uuid7(), service=self.service, method=ended.what, tenant=ended.tenant, subject=ended.subject,
            actor=ended.actor, run=ended.resource, resource=ended.resource, code=ended.code, reason=ended.reason,
            category="EXECUTE", usage=ended.usage,
        )  # fmt: skip
        record.start_time.FromNanoseconds(ended.start_ns)
        record.duration.FromNanoseconds(max(0, ended.duration_ns))
        connection.execute(_INSERT, {"record": record.SerializeToString()})
        self._loop.call_soon_threadsafe(self._table_grew)  # the relay lingers for longer than a commit takes

    def _table_grew(self) -> None:
        self.tabled = True
        self.arrived.set()

    async def hand_over(self, take: Callable[[Sequence[bytes]], Awaitable[None]]) -> bool:
        """Hand over the file's records, oldest first; those handed over before a crash come again, same uid.

        Returns:
            Whether there were any.
        """
        if not self._spool.seal():
            return False
        batches = self._spool.sealed(_MAX_BATCH, _MAX_BATCH_BYTES)  # while nobody took it, it may have grown large
        while batch := await asyncio.to_thread(next, batches, None):
            await take(batch)
        self._spool.forget()
        return True

    async def fold(self) -> None:
        """Move the file's records into the table: its disk may go with the process."""
        await self.hand_over(self._to_table)

    async def _to_table(self, records: Sequence[bytes]) -> None:
        rows = [{"record": record} for record in records]
        # The file is forgotten later: PostgreSQL may be on another machine, whose death loses what is not durable.
        durable = not self._database.is_sqlite
        await self._database.write(lambda connection: connection.execute(_INSERT, rows), durable=durable)
        self.tabled = True


class Relay:
    """Ships the spool to security, oldest first, and forgets what arrived there.

    Args:
        recorder: says when something new has come.
        database: the service's own database.
        channels: the way to security.
    """

    def __init__(self, recorder: Recorder, database: Database, channels: Channels) -> None:
        self._recorder = recorder
        self._database = database
        self._channels = channels
        self._looked = 0.0
        self._log = structlog.get_logger("mesh.relay")

    async def run(self) -> None:
        """Ship for ever; a security that is down is asked again with growing pauses and loses nothing."""
        pause_s, look_s = _LINGER_S, _LOOK_AGAIN_S
        linger = Linger(_LINGER_S, _LONGEST_LINGER_S)
        while True:
            self._recorder.arrived.clear()
            try:
                await self.ship_all()
            except (grpc.aio.AioRpcError, TiationError) as error:  # security is down, or the database
                pause_s = min(pause_s * 2, _MAX_PAUSE_S)
                why = error.details() if isinstance(error, grpc.aio.AioRpcError) else error.message
                self._log.warning("records not shipped", error=why, retry_in_s=round(pause_s, 1))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter is no secret
                continue
            pause_s = _LINGER_S
            shipped = time.monotonic()
            try:
                async with asyncio.timeout(look_s):
                    await self._recorder.arrived.wait()
            except TimeoutError:
                look_s = min(look_s * 2, _LONGEST_LOOK_AGAIN_S)
                continue
            look_s = _LOOK_AGAIN_S
            await asyncio.sleep(linger.next_s(time.monotonic() - shipped))

    async def ship_rest(self) -> None:
        """Ship everything, once nothing more is kept."""
        self._recorder.tabled = True
        while await self.ship_all():
            pass

    async def ship_all(self) -> bool:
        """Ship what is there: first what waits in the table, which is older, then what is in the file.

        Returns:
            Whether there was anything in the file; there may be more by now.
        """
        try:
            if self._recorder.tabled or time.monotonic() - self._looked >= _LOOK_AGAIN_S:
                await self._ship_table()
            return await self._recorder.hand_over(self._send)
        except grpc.aio.AioRpcError:
            await self._recorder.fold()
            raise

    async def _ship_table(self) -> None:
        self._recorder.tabled = False
        try:
            async with self._database.alone("relay"):  # the processes of a service share it
                more = True
                while more:
                    rows, more = await self._database.read(_oldest)
                    if rows:
                        await self._send([record for _, record in rows])
                        await self._database.write(partial(_forget, rows[-1][0]), durable=False)
        except BaseException:  # there is something left
            self._recorder.tabled = True
            raise
        self._looked = time.monotonic()

    async def _send(self, records: Sequence[bytes]) -> None:
        request = record_pb2.AppendRecordsRequest()
        for record in records:
            request.records.add().MergeFromString(record)
        stub = self._channels.stub(record_pb2_grpc.RecordServiceStub, "security")
        await stub.AppendRecords(request, timeout=10.0)


def _forget(last: int, connection: Connection) -> None:
    connection.execute(delete(_records).where(_records.c.sequence <= last))


def _oldest(connection: Connection) -> tuple[list[tuple[int, bytes]], bool]:
    """The oldest records, as many as fit into one message, one always; and whether there are more."""
    found = connection.execute(select(_records).order_by(_records.c.sequence).limit(_MAX_BATCH + 1))
    batch: list[tuple[int, bytes]] = []
    size = 0
    for row in found:
        size += len(row.record)
        if len(batch) == _MAX_BATCH or (batch and size > _MAX_BATCH_BYTES):
            return batch, True
        batch.append((row.sequence, row.record))
    return batch, False
