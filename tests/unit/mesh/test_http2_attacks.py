"""Peers that mean harm, or act as if: connections that say nothing, too many streams, readers that do not read."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import grpc.aio
import psutil
import pytest

from mesh.http2.calls import CallContext
from mesh.http2.messages import Head
from tests.unit.mesh.test_http2_server import serving

QUIET = 200


@pytest.fixture
async def mesh(tmp_path):
    async with serving(tmp_path) as made:
        yield made


async def slowest(channel: grpc.aio.Channel, count: int = 30) -> float:
    """The longest that one of some calls takes, seconds."""
    once = channel.unary_unary("/test.S/Once")
    took = []
    for _ in range(count):
        began = time.monotonic()
        assert await once(b"a", timeout=10) == b"aa"
        took.append(time.monotonic() - began)
    return max(took)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that takes its time: both ends live on the same loop."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_connections_that_never_finish_their_handshake_are_ended_and_keep_nobody_waiting(mesh, monkeypatch):
    monkeypatch.setattr("mesh.http2.door._HANDSHAKE_S", 1.0)
    await mesh.server.stop(0.1)
    mesh.port = await mesh.server.listen("127.0.0.1:0")
    async with mesh.channel() as channel:
        before = await slowest(channel)
        quiet = [await asyncio.open_connection("127.0.0.1", mesh.port) for _ in range(QUIET)]
        for at, (_, writer) in enumerate(quiet):
            writer.write((b"", b"\x16", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n")[at % 4])
        assert await slowest(channel) < 5 * before + 0.5
        for reader, writer in quiet:
            with suppress(ConnectionError):  # some are told why, with an alert
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        assert await slowest(channel) < 5 * before + 0.5


async def test_more_handshakes_than_are_taken_end_the_oldest_and_keep_nobody_out(mesh, monkeypatch):
    monkeypatch.setattr("mesh.http2.door._MOST_STRANGERS", 20)
    silent = []
    for _ in range(3 * 20):
        silent.append(await asyncio.open_connection("127.0.0.1", mesh.port))
    async with mesh.channel() as channel:
        assert await slowest(channel, 3) < 2
    assert len(mesh.server._door._strangers) <= 20
    gone = 0
    for reader, _ in silent:
        with suppress(TimeoutError):
            gone += await asyncio.wait_for(reader.read(1), 0.02) == b""
    assert gone >= 40
    assert not any(writer.transport.is_closing() for _, writer in silent[-15:])
    for _, writer in silent:
        writer.close()


async def test_a_process_without_sockets_left_lets_its_peers_go_on_and_takes_new_ones_later(mesh, monkeypatch):
    async with mesh.channel() as channel:
        await slowest(channel, 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        mine = psutil.Process().num_fds()
        resource.setrlimit(resource.RLIMIT_NOFILE, (mine + 40, hard))
        held = []
        try:
            with suppress(OSError):  # both ends are of this process
                for _ in range(200):
                    held.append(socket.create_connection(("127.0.0.1", mesh.port)))
                    await asyncio.sleep(0)
            assert await slowest(channel, 3) < 5
        finally:
            for each in held:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with mesh.channel() as other:
            assert await slowest(other, 3) < 5


async def test_peers_that_come_and_go_leave_nothing_behind(mesh):
    async with mesh.channel() as channel:
        await slowest(channel, 1)
        for _ in range(20):
            async with mesh.channel() as other:
                waiting = other.unary_unary("/test.S/Once")(b"wait")
                await slowest(other, 1)
                del waiting
        await until(lambda: len(mesh.server._connections) == 1)
        assert await slowest(channel) < 1


async def test_streams_without_number_that_do_nothing_cost_others_nothing(mesh):
    async with mesh.channel() as channel:
        before = await slowest(channel)
        resident = psutil.Process().memory_info().rss
        channels = [mesh.channel() for _ in range(3)]
        streams = []
        for each in channels:
            for _ in range(1000):
                stream = each.stream_stream("/test.S/Both")()
                await stream.write(b"a")
                streams.append(stream)
        assert [await stream.read() for stream in streams] == [b"a!"] * len(streams)
        assert await slowest(channel) < 5 * before + 0.5
        assert psutil.Process().memory_info().rss - resident < 200 << 20
        for stream in streams:
            stream.cancel()
        for each in channels:
            await each.close()
        await until(lambda: not any(connection._tasks for connection in mesh.server._connections))
        assert await slowest(channel) < 5 * before + 0.5


async def test_many_readers_that_do_not_read_are_held_to_what_may_wait_for_each(mesh):
    narrow = {"grpc.http2.lookahead_bytes": 1, "grpc.http2.bdp_probe": 0}  # gRPC's clients take in much more unasked
    async with mesh.channel(**narrow) as deaf, mesh.channel() as channel:
        before = await slowest(channel)
        unread = [deaf.unary_stream("/test.S/Many")(b"100000") for _ in range(100)]
        for call in unread:
            await call.read()
        assert await slowest(channel) < 5 * before + 0.5
        held = [
            connection.connection.sender.waiting(stream)
            for connection in mesh.server._connections
            for stream in connection._calls
        ]
        assert len(held) == 100
        assert 0 < max(held) < 512 << 10
        for call in unread:
            call.cancel()


@pytest.mark.parametrize("size", [40_000, 1_000_000])
async def test_metadata_without_measure_is_refused_and_its_mates_go_on(mesh, size: int):
    async with mesh.channel(
        **{"grpc.max_metadata_size": 1 << 24, "grpc.absolute_max_metadata_size": 1 << 24}
    ) as channel:
        once = channel.unary_unary("/test.S/Once")
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await once(b"a", metadata=(("long", "x" * size),), timeout=10)
            assert raised.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    async with mesh.channel() as other:
        assert await slowest(other) < 2


async def test_a_call_that_was_ended_for_its_deadline_has_no_time_left_however_early_the_timer_was():
    handler = grpc.unary_unary_rpc_method_handler(lambda *_: None)
    call = CallContext(None, 1, Head("/test.S/Once", (), {}, 5.0, "identity"), handler, 100)
    call.task = asyncio.ensure_future(asyncio.sleep(10))
    assert call.time_remaining() > 4
    call.expire()
    assert call.time_remaining() == 0.0
    with suppress(asyncio.CancelledError):
        await call.task
