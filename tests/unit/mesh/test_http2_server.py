"""Calls over a socket, asked by gRPC's own client with a certificate of the mesh."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest

from mesh.config import Settings
from mesh.http2.server import Http2Server
from mesh.svid import SvidSource
from security.app import bootstrap, issue_svid

MAX_BYTES = 8 << 20


class Through(grpc.aio.ServerInterceptor):
    """Wraps nothing."""

    async def intercept_service(self, continuation, details):
        return await continuation(details)


class Service:
    """One method of each form, and what was seen of calls."""

    def __init__(self) -> None:
        self.contexts: list = []
        self.ended: list[str] = []
        self.sent = 0

    async def once(self, request: bytes, context) -> bytes:
        self.contexts.append(context)
        if request == b"headers":
            await context.send_initial_metadata((("own", "a"), ("own-bin", b"\x00\xff")))
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing — here\n", (("why-bin", b"\x01\x02"),))
        if request == b"crash":
            raise RuntimeError("secret")
        if request == b"wait":
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                self.ended.append("once")
                raise
        return request * 2 if len(request) < 1000 else request

    async def many(self, request: bytes, context):
        try:
            for at in range(int(request)):
                self.sent = at + 1
                yield bytes([at % 256]) * 100_000
            if request.endswith(b" "):
                await context.abort(grpc.StatusCode.DATA_LOSS, "lost")
        finally:
            self.ended.append("many")

    async def gather(self, requests, context) -> bytes:
        return b",".join([request async for request in requests])

    async def both(self, requests, context):
        async for request in requests:
            yield request + b"!"

    def handlers(self) -> dict:
        return {
            "Once": grpc.unary_unary_rpc_method_handler(self.once),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Gather": grpc.stream_unary_rpc_method_handler(self.gather),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        }


class Mesh:
    """A server, its service, and channels to it."""

    def __init__(self, folder) -> None:
        self.home, self.settings = folder / "home", Settings()
        bootstrap(self.home, self.settings)
        self.svid = SvidSource(self.issue("engine", folder))
        self.client = SvidSource(self.issue("gateway", folder))
        self.service = Service()
        self.server = Http2Server(Through(), self.svid, MAX_BYTES)
        self.server.add_registered_method_handlers("test.S", self.service.handlers())
        self.port = 0

    def issue(self, name: str, folder):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(issue_svid(self.home, self.settings, name)))
        return path

    def channel(self, **options) -> grpc.aio.Channel:
        given = [("grpc.ssl_target_name_override", "engine.tiation.local"), ("grpc.max_receive_message_length", -1)]
        given += [("grpc.use_local_subchannel_pool", 1), *options.items()]
        credentials = self.client.channel_credentials()
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=given)


@asynccontextmanager
async def serving(folder):
    mesh = Mesh(folder)
    mesh.port = await mesh.server.listen("127.0.0.1:0")
    try:
        yield mesh
    finally:
        await mesh.server.stop(0.5)


@pytest.fixture
async def mesh(tmp_path):
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture
async def channel(mesh):
    async with mesh.channel() as made:
        yield made


async def failure(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_each_form_of_a_call_is_answered(channel):
    assert await channel.unary_unary("/test.S/Once")(b"ab") == b"abab"
    assert [len(each) async for each in channel.unary_stream("/test.S/Many")(b"5")] == [100_000] * 5
    assert await channel.stream_unary("/test.S/Gather")(iter([b"a", b"", b"c"])) == b"a,,c"
    assert [each async for each in channel.stream_stream("/test.S/Both")(iter([b"a", b"b"]))] == [b"a!", b"b!"]


async def test_messages_up_to_the_limit_go_both_ways_and_larger_ones_are_refused(channel):
    call = channel.unary_unary("/test.S/Once")
    body = bytes(range(256)) * (MAX_BYTES // 256)
    assert await call(body) == body
    assert (await failure(call(body + b"x"))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await call(b"ab") == b"abab"


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_taken_as_far_as_they_are_small_once_unpacked(channel, how):
    call = channel.unary_unary("/test.S/Once")
    body = b"a" * 1_000_000
    assert await call(body, compression=how) == body
    assert (await failure(call(b"a" * (MAX_BYTES + 1), compression=how))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_goes_both_ways(mesh, channel):
    call = channel.unary_unary("/test.S/Once")(b"headers", metadata=(("mine", "b"), ("mine-bin", b"\x00\x01\xfe")))
    assert await call == b"headersheaders"
    got = dict(await call.initial_metadata())
    assert (got["own"], got["own-bin"]) == ("a", b"\x00\xff")
    seen = dict(mesh.service.contexts[0].invocation_metadata())
    assert (seen["mine"], seen["mine-bin"]) == ("b", b"\x00\x01\xfe")
    assert mesh.service.contexts[0].auth_context()["peer_spiffe_id"] == [b"spiffe://tiation.local/svc/gateway"]
    assert b"BEGIN CERTIFICATE" in mesh.service.contexts[0].auth_context()["x509_pem_cert"][0]


async def test_a_status_comes_whole_and_a_crash_says_nothing(channel):
    call = channel.unary_unary("/test.S/Once")
    ended = await failure(call(b"abort"))
    assert (ended.code(), ended.details()) == (grpc.StatusCode.NOT_FOUND, "nothing — here\n")
    assert dict(ended.trailing_metadata())["why-bin"] == b"\x01\x02"
    crashed = await failure(call(b"crash"))
    assert crashed.code() is grpc.StatusCode.UNKNOWN
    assert "secret" not in crashed.details()


async def test_a_stream_that_fails_has_its_answers_and_its_status(channel):
    got = []
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for each in channel.unary_stream("/test.S/Many")(b"2 "):
            got.append(len(each))
    assert (got, raised.value.code()) == ([100_000] * 2, grpc.StatusCode.DATA_LOSS)


async def test_what_nobody_serves_and_headers_without_measure_are_refused(channel):
    assert (await failure(channel.unary_unary("/test.S/None")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED
    call = channel.unary_unary("/test.S/Once")
    large = await failure(call(b"ab", metadata=(("large", "x" * 15_000), ("larger", "x" * 25_000))))
    assert large.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await call(b"ab") == b"abab"


async def test_a_call_past_its_deadline_is_ended_on_both_sides(mesh, channel):
    late = await failure(channel.unary_unary("/test.S/Once")(b"wait", timeout=0.2))
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        while not mesh.service.ended:
            await asyncio.sleep(0.01)


async def test_a_call_that_is_taken_back_is_ended(mesh, channel):
    call = channel.unary_unary("/test.S/Once")(b"wait")
    while not mesh.service.contexts:
        await asyncio.sleep(0.01)
    call.cancel()
    async with asyncio.timeout(5):
        while not mesh.service.ended:
            await asyncio.sleep(0.01)
    assert await channel.unary_unary("/test.S/Once")(b"ab") == b"abab"


async def test_a_peer_that_goes_takes_its_calls_with_it(mesh):
    gone = mesh.channel()
    call = gone.unary_unary("/test.S/Once")(b"wait")
    while not mesh.service.contexts:
        await asyncio.sleep(0.01)
    await gone.close()
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await call
    async with asyncio.timeout(5):
        while not mesh.service.ended:
            await asyncio.sleep(0.01)


async def test_a_reader_that_does_not_read_stops_its_stream_and_no_other(mesh, channel):
    stream = channel.unary_stream("/test.S/Many")(b"10000")
    await stream.read()
    before = -1
    while before != mesh.service.sent:
        before = mesh.service.sent
        await asyncio.sleep(0.3)
        assert await channel.unary_unary("/test.S/Once")(b"ab") == b"abab"
    assert before < 1000
    stream.cancel()
    async with asyncio.timeout(5):
        while "many" not in mesh.service.ended:
            await asyncio.sleep(0.01)


async def test_a_thousand_calls_at_once_each_have_their_own_answer(channel):
    call = channel.unary_unary("/test.S/Once")
    assert await asyncio.gather(*(call(b"%d" % at) for at in range(1000))) == [b"%d" % at * 2 for at in range(1000)]


async def test_a_server_that_ends_lets_its_calls_end_first(tmp_path):
    async with serving(tmp_path) as mesh, mesh.channel() as channel:
        both = channel.stream_stream("/test.S/Both")()
        await both.write(b"a")
        assert await both.read() == b"a!"
        stopping = asyncio.create_task(mesh.server.stop(10))
        await asyncio.sleep(0.5)
        await both.write(b"b")
        assert await both.read() == b"b!"
        await both.done_writing()
        assert await both.read() is grpc.aio.EOF
        await asyncio.wait_for(stopping, 3)


async def test_a_server_ends_calls_that_do_not_end(tmp_path):
    async with serving(tmp_path) as mesh, mesh.channel() as channel:
        call = channel.unary_unary("/test.S/Once")(b"wait")
        while not mesh.service.contexts:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(mesh.server.stop(0.3), 5)
        assert (await failure(call)).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert mesh.service.ended == ["once"]


async def test_nobody_comes_in_without_a_certificate_of_the_mesh(mesh, tmp_path):
    trusting = ssl.create_default_context(cadata=mesh.svid.current.bundle.decode())
    trusting.check_hostname = False
    trusting.set_alpn_protocols(["h2"])
    with suppress(ssl.SSLError, ConnectionError):
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.port, ssl=trusting)
        assert await reader.read(1) == b""
        writer.close()


async def test_a_renewed_certificate_is_shown_to_whoever_comes_next(mesh, tmp_path):
    async with mesh.channel() as before:
        assert await before.unary_unary("/test.S/Once")(b"a") == b"aa"
        mesh.svid.current = SvidSource(mesh.issue("engine", tmp_path)).current
        async with mesh.channel() as after:
            assert await after.unary_unary("/test.S/Once")(b"a") == b"aa"
        assert await before.unary_unary("/test.S/Once")(b"a") == b"aa"
        context = ssl.create_default_context(cadata=mesh.svid.current.bundle.decode())
        context.check_hostname = False
        chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_bytes(mesh.client.current.chain)
        key.write_bytes(mesh.client.current.key)
        context.load_cert_chain(chain, key)
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", mesh.port, ssl=context)
        shown = ssl.DER_cert_to_PEM_cert(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        assert shown.strip().encode() in mesh.svid.current.chain
        writer.close()
        await writer.wait_closed()
