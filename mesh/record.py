"""Call records: kept in the service's own database before the answer leaves, then shipped to security.

A write's record commits with the change itself. What security does with the records lives there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

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
_FOLDED_AT_ONCE = 2000
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_LINGER_S, _LONGEST_LINGER_S = 0.25, 1.0
_MAX_PAUSE_S = 5.0
_LOOK_AGAIN_S = 2.0


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
    """

    def __init__(self, service: str, database: Database, spool: Spool) -> None:
        self.service = service
        self._database = database
        self._spool = spool
        self.arrived = asyncio.Event()
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
            self.arrived.set()

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
        self._loop.call_soon_threadsafe(self.arrived.set)  # the relay gathers for longer than a commit takes

    async def fold(self) -> None:
        """Move the spool file's records into the table; those that were moved before a crash move again, same uid."""
        if self._spool.seal():
            batches = self._spool.sealed(_FOLDED_AT_ONCE)  # while the database was away it may have grown large
            while batch := await asyncio.to_thread(next, batches, None):
                await self._fold(batch)
        self._spool.forget()

    async def _fold(self, records: Sequence[bytes]) -> None:
        rows = [{"record": record} for record in records]
        # The file is forgotten later: PostgreSQL may be on another machine, whose death loses what is not durable.
        durable = not self._database.is_sqlite
        await self._database.write(lambda connection: connection.execute(_INSERT, rows), durable=durable)


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
        self._log = structlog.get_logger("mesh.relay")

    async def run(self) -> None:
        """Ship for ever; a security that is down is asked again with growing pauses and loses nothing."""
        pause_s = _LINGER_S
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
            with suppress(TimeoutError):  # word of a record may come before its transaction is committed
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._recorder.arrived.wait()
            await asyncio.sleep(linger.next_s(time.monotonic() - shipped))

    async def ship_all(self) -> None:
        """Ship whatever is there."""
        await self._recorder.fold()
        async with self._database.alone("relay"):  # the processes of a service share the spool's table
            while await self._ship():
                pass

    async def _ship(self) -> bool:
        """Ship one batch; returns whether there is more."""
        rows, more = await self._database.read(_oldest)
        if not rows:
            return False
        request = record_pb2.AppendRecordsRequest()
        for _, raw in rows:
            request.records.append(call_record_pb2.CallRecord.FromString(raw))
        stub = self._channels.stub(record_pb2_grpc.RecordServiceStub, "security")
        await stub.AppendRecords(request, timeout=10.0)
        last = rows[-1][0]
        await self._database.write(
            lambda connection: connection.execute(delete(_records).where(_records.c.sequence <= last)), durable=False
        )
        return more


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
