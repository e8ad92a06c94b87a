"""RecordService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp
from tiation.mesh.v1 import call_record_pb2
from tiation.security.v1 import record_pb2 as pb
from tiation.security.v1 import record_pb2_grpc

from mesh.call import Context
from mesh.catalogue import NotFoundError
from mesh.db import Database, Transaction
from mesh.errors import Code, InvalidError
from mesh.identity import current_caller, workload_of
from mesh.pagination import Pages
from mesh.policy import PLATFORM
from mesh.resource import tenant_of
from mesh.shelf import timestamp
from security.errors import RecordForgedError
from security.ports import RecordRows
from security.records import RecordFilter, RecordNews, StoredRecord

__all__ = ["RecordServicer"]

_AT_ONCE = 1000
_LOOK_AGAIN_S, _LOOK_AGAIN_ALONE_S = 1.0, 5.0
"""Another replica's records come without word, and so do those whose sender has gone while they were written."""


class RecordServicer(record_pb2_grpc.RecordServiceServicer):
    """Takes and shows records.

    Args:
        database: security's own database.
        rows: its statements.
        pages: makes and checks page tokens.
        trust_domain: the mesh's SPIFFE trust domain.
        news: says when records have come.
    """

    def __init__(self, database: Database, rows: RecordRows, pages: Pages, trust_domain: str, news: RecordNews) -> None:
        self._database = database
        self._rows = rows
        self._pages = pages
        self._trust_domain = trust_domain
        self._news = news

    async def AppendRecords(self, request: pb.AppendRecordsRequest, _: Context) -> pb.AppendRecordsResponse:
        """Keep what a service's relay brings; it may only speak of that service's own calls."""
        service = workload_of(current_caller().peer, self._trust_domain)
        now = datetime.now(UTC)
        records = [_stored(record, now) for record in request.records]
        if any(record.service != service for record in records):
            raise RecordForgedError(f"{service} may hand over records of its own calls only", service=service)
        stored = await self._database.write(lambda transaction: self._rows.add(transaction, records))
        self._news.tell()
        return pb.AppendRecordsResponse(stored=stored)

    async def StreamRecords(
        self, request: pb.StreamRecordsRequest, _: Context
    ) -> AsyncIterator[pb.StreamRecordsResponse]:
        """Every record once, in the order in which they were stored."""
        seen, greeted = request.after_sequence, False
        longest_s = _LOOK_AGAIN_S if self._database.is_shared else _LOOK_AGAIN_ALONE_S
        while not self._news.closed:
            more = self._news.next()
            newest, records = await self._database.read(partial(self._tail, seen))
            if records or not greeted:
                greeted = True
                seen = records[-1].sequence if records else seen
                yield _streamed(records, newest)
            if len(records) < _AT_ONCE:
                await self._news.wait(more, longest_s)

    def _tail(self, seen: int, transaction: Transaction) -> tuple[int, list[StoredRecord]]:
        records = self._rows.after(transaction, seen, _AT_ONCE)
        return max(self._rows.newest(transaction), records[-1].sequence if records else 0), records

    async def GetRecord(self, request: pb.GetRecordRequest, _: Context) -> pb.Record:
        """One record."""
        tenant, uid = tenant_of(request.name), request.name.rsplit("/", 1)[1]
        found = await self._database.read(lambda transaction: self._rows.get(transaction, tenant, uid))
        if found is None:
            raise NotFoundError(request.name)
        return _message(found)

    async def ListRecords(self, request: pb.ListRecordsRequest, _: Context) -> pb.ListRecordsResponse:
        """A page of records, newest first."""
        wanted = RecordFilter(request.service, _code(request.outcome), request.subject)
        bound_to = ("Record", request.parent, request.service, request.outcome, request.subject)
        page = self._pages.start(bound_to, request.page_size, request.page_token)
        tenant = tenant_of(request.parent)
        found = await self._database.read(lambda transaction: self._rows.page(transaction, tenant, wanted, page))
        kept, token = self._pages.cut(bound_to, page, found, [str(record.sequence) for record in found])
        return pb.ListRecordsResponse(records=[_message(record) for record in kept], next_page_token=token)


def _code(outcome: str) -> int | None:
    """The number of an outcome's name; None where none is asked for."""
    if not outcome:
        return None
    if outcome == "OK":
        return 0
    try:
        return int(Code[outcome])
    except KeyError:
        known = ", ".join(["OK", *Code.__members__])
        raise InvalidError("outcome", f"must be one of {known}", value=outcome) from None


def _stored(record: call_record_pb2.CallRecord, now: datetime) -> StoredRecord:
    return StoredRecord(
        uid=record.uid,
        tenant=record.tenant,
        service=record.service,
        subject=record.subject,
        code=record.code,
        receive_time=now,
        record=record.SerializeToString(),
    )


def _streamed(records: Sequence[StoredRecord], newest: int) -> pb.StreamRecordsResponse:
    answer = pb.StreamRecordsResponse(newest_sequence=newest)
    stamps: dict[datetime, Timestamp] = {}  # what came together was received at one time
    for stored in records:
        received = stamps.get(stored.receive_time)
        if received is None:
            received = stamps[stored.receive_time] = timestamp(stored.receive_time)
        sequenced = answer.records.add(sequence=stored.sequence, receive_time=received)
        sequenced.call.MergeFromString(stored.record)
    return answer


def _message(stored: StoredRecord) -> pb.Record:
    return pb.Record(
        name=f"{PLATFORM}/{stored.tenant}/records/{stored.uid}",
        call=call_record_pb2.CallRecord.FromString(stored.record),
        receive_time=timestamp(stored.receive_time),
    )
