"""The feed over gRPC: a channel that is closed under it breaks it like anything else, and counting goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry
from tiation.security.v1 import record_pb2 as pb
from tiation.security.v1 import record_pb2_grpc

import analytics.ingest
from analytics.adapters.records import RecordFeed
from analytics.errors import FeedBrokenError
from analytics.facts import Prices
from analytics.figures import Figures
from analytics.ingest import Ingest
from analytics.keeper import Keeper
from tests.fakes.analytics_facts import NOON
from tests.unit.analytics.conftest import ROWS, Counter


class Records(record_pb2_grpc.RecordServiceServicer):
    """One record more for whoever asks, and then none for a long time."""

    async def StreamRecords(self, request: pb.StreamRecordsRequest, _) -> AsyncIterator[pb.StreamRecordsResponse]:
        """As security's."""
        record = pb.SequencedRecord(sequence=request.after_sequence + 1)
        record.receive_time.seconds = NOON
        yield pb.StreamRecordsResponse(records=[record], newest_sequence=record.sequence)
        await asyncio.sleep(60)


class Line:
    """What `mesh.channel.Channels` is to the feed: a channel that another takes the place of."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.replace()

    def replace(self) -> None:
        self.channel = grpc.aio.insecure_channel(self._address)

    def stub(self, stub, _: str):
        return stub(self.channel)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    server = grpc.aio.server()
    record_pb2_grpc.add_RecordServiceServicer_to_server(Records(), server)
    made = Line(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    yield made
    await made.channel.close()
    await server.stop(0)


async def read(feed: RecordFeed, seen: asyncio.Queue[int]) -> None:
    async for batch in feed.follow(0):
        seen.put_nowait(batch.last)


async def test_a_channel_that_is_closed_under_the_stream_breaks_the_feed(line: Line):
    seen: asyncio.Queue[int] = asyncio.Queue()
    reader = asyncio.create_task(read(RecordFeed(line), seen))
    assert await asyncio.wait_for(seen.get(), 10) == 1
    await line.channel.close(grace=0.05)
    await asyncio.wait((reader,), timeout=10)
    assert not reader.cancelled()
    assert isinstance(reader.exception(), FeedBrokenError)


async def test_whoever_is_cancelled_while_it_follows_is_cancelled(line: Line):
    seen: asyncio.Queue[int] = asyncio.Queue()
    reader = asyncio.create_task(read(RecordFeed(line), seen))
    await asyncio.wait_for(seen.get(), 10)
    reader.cancel()
    await asyncio.wait((reader,), timeout=10)
    assert reader.cancelled()


async def test_counting_goes_on_when_the_channel_was_replaced_and_the_old_one_closed(
    counter: Counter, line: Line, monkeypatch
):
    monkeypatch.setattr(analytics.ingest, "_FIRST_PAUSE_S", 0.01)
    figures = Figures(CollectorRegistry())
    keeper = Keeper(counter.database, counter.rollups, Prices({}), figures)
    task = asyncio.create_task(Ingest(RecordFeed(line), counter.database, ROWS, keeper, figures).run())

    async def counted(number: int) -> None:
        async with asyncio.timeout(10):
            while await counter.database.read(ROWS.position) < number:
                await asyncio.sleep(0.01)

    try:
        for number in (1, 2, 3):
            await counted(number)
            old = line.channel
            line.replace()
            await old.close(grace=0.05)
        await counted(4)
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
