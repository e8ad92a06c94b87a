"""What a peer can make a service keep or do, and that nothing one call does is felt by the others of its connection."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from mesh.http2.frames import Kind, frame
from mesh.http2.memory import Memory
from mesh.http2.messages import framed
from mesh.svid import SvidSource
from tests.unit.mesh.test_http2_server import Mesh

WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE


class Odd:
    """Servicers that do not behave."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.stopped = asyncio.Event()

    async def deaf(self, requests, context) -> bytes:
        await asyncio.sleep(0.05)
        return b"done"

    async def late(self, requests, context) -> bytes:
        try:
            async for _ in requests:
                pass
        finally:
            self.seen.append("ending")
            await asyncio.sleep(0.2)
            self.seen.append("ended")
        return b""

    async def large(self, request: bytes, context) -> bytes:
        return bytes(int(request))

    async def told(self, request: bytes, context) -> bytes:
        def fails(_) -> None:
            raise RuntimeError("a callback")

        context.add_done_callback(fails)
        context.add_done_callback(lambda context: self.seen.append(f"over {context.done()}"))
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no file {chr(0xDC80)}")

    async def breaks(self, request: bytes, context) -> bytes:
        raise asyncio.CancelledError

    def handlers(self) -> dict:
        return {
            "Deaf": grpc.stream_unary_rpc_method_handler(self.deaf),
            "Late": grpc.stream_unary_rpc_method_handler(self.late),
            "Large": grpc.unary_unary_rpc_method_handler(self.large),
            "Told": grpc.unary_unary_rpc_method_handler(self.told),
            "Breaks": grpc.unary_unary_rpc_method_handler(self.breaks),
        }


class Peer:
    """A client that does what it is told and no more: it reads when it is asked to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({WINDOW: window})
        self.bodies: dict[int, bytes] = {}
        self.status: dict[int, str] = {}
        self.ended: list[object] = []
        self.pongs: list[bytes] = []

    def open(self, method: str, body: bytes = b"", *, ended: bool = True, **headers: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "https", ":path": f"/test.O/{method}", ":authority": "a"}
        head |= {"content-type": "application/grpc"} | {name.replace("_", "-"): text for name, text in headers.items()}
        self.h2.send_headers(stream, list(head.items()))
        self.bodies[stream] = b""
        self.send(stream, body, ended=ended)
        return stream

    def send(self, stream: int, body: bytes, *, ended: bool) -> None:
        for at in range(0, len(body), 16384):
            self.h2.send_data(stream, body[at : at + 16384], end_stream=ended and at + 16384 >= len(body))
        self.writer.write(self.h2.data_to_send())

    async def read(self, until) -> None:
        async with asyncio.timeout(10):
            while not until():
                data = await self.reader.read(1 << 16)
                assert data, "the connection ended"
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.writer.write(self.h2.data_to_send())

    def _take(self, event: object) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            if (status := dict(event.headers).get("grpc-status")) is not None:
                self.status[event.stream_id] = status
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs.append(event.ping_data)
        elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            self.ended.append(event)


@pytest.fixture
async def mesh(tmp_path):
    made = Mesh(tmp_path)
    made.odd, made.folder = Odd(), tmp_path
    made.server.add_registered_method_handlers("test.O", made.odd.handlers())
    made.port = await made.server.listen("127.0.0.1:0")
    yield made
    await made.server.stop(0.1)
    async with asyncio.timeout(5):  # for calls that take their time to end
        while made.server.memory.kept:
            await asyncio.sleep(0.01)


def trusting(mesh: Mesh) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=mesh.svid.current.bundle.decode())
    context.check_hostname = False
    pem = mesh.folder / "client.pem"
    pem.write_bytes(mesh.client.current.key + b"\n" + mesh.client.current.chain)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    return context


@asynccontextmanager
async def connected(mesh: Mesh, window: int = 65535):
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.port, ssl=trusting(mesh))
    peer = Peer(reader, writer, window)
    try:
        await peer.read(lambda: peer.h2.outbound_flow_control_window > 65535)
        yield peer
    finally:
        writer.transport.abort()


async def test_what_calls_have_not_read_when_they_end_is_not_missed_by_the_ones_after_them(mesh):
    async with connected(mesh) as peer:
        for _ in range(40):  # the connection's window holds sixteen of them
            stream = peer.open("Deaf", framed(bytes(1000)) * 900, ended=False)
            await peer.read(lambda stream=stream: stream in peer.status)
        assert peer.status == dict.fromkeys(peer.status, "0")


async def test_a_ping_is_answered_with_the_next_answer_or_soon_by_itself(mesh):
    async with connected(mesh) as peer:
        peer.h2.ping(b"together")
        stream = peer.open("Large", framed(b"3"))
        await peer.read(lambda: stream in peer.status)
        assert peer.pongs == [b"together"]
        peer.h2.ping(b"no calls")
        peer.writer.write(peer.h2.data_to_send())
        async with asyncio.timeout(1):
            await peer.read(lambda: len(peer.pongs) == 2)
        assert peer.pongs[1] == b"no calls"


async def test_one_message_that_is_not_read_leaves_the_connection_to_the_others(mesh):
    async with connected(mesh) as peer:
        late = peer.open("Late", framed(b""), ended=False)
        body = framed(bytes(6 << 20))
        for at in range(0, len(body), 1 << 19):
            await peer.read(lambda: peer.h2.local_flow_control_window(late) >= 1 << 19)
            peer.send(late, body[at : at + (1 << 19)], ended=False)
        peer.h2.reset_stream(late)
        stream = peer.open("Large", framed(b"5"))
        await peer.read(lambda: stream in peer.status)


async def test_requests_that_come_while_a_late_call_is_ending_do_not_end_the_connection(mesh):
    async with connected(mesh) as peer:
        stream = peer.open("Late", framed(b"a"), ended=False, grpc_timeout="100m")
        async with asyncio.timeout(5):
            while "ending" not in mesh.odd.seen:
                await asyncio.sleep(0.01)
        peer.send(stream, framed(b"b"), ended=False)
        await peer.read(lambda: stream in peer.status)
        assert (peer.status[stream], mesh.odd.seen) == ("4", ["ending", "ended"])


async def test_a_call_that_does_not_come_whole_in_its_time_is_ended(mesh):
    async with connected(mesh) as peer:
        stream = peer.open("Large", b"\0\0\0\0\x09half", ended=False, grpc_timeout="50m")
        await peer.read(lambda: stream in peer.status)
        assert peer.status[stream] == "4"


async def test_bodies_that_do_not_end_are_kept_up_to_a_bound_and_refused_beyond_it(mesh):
    mesh.server.memory = Memory(1 << 20)
    async with connected(mesh) as peer:
        half = b"\0" + (1 << 20).to_bytes(4, "big") + bytes(300_000)
        streams = [peer.open("Large", half, ended=False) for _ in range(4)]
        await peer.read(lambda: streams[-1] in peer.status)
        assert peer.status == {streams[-1]: "8"}
        for stream in streams[:-1]:
            peer.h2.reset_stream(stream)
        after = peer.open("Large", framed(b"7"))
        await peer.read(lambda: after in peer.status)
        assert (peer.status[after], mesh.server.memory.kept) == ("0", 0)


@pytest.mark.parametrize("method", ["Large", "Late"])
@pytest.mark.parametrize("length", ["0", "5", "7", "999", "-6", "6, 6", "x", "9" * 30])
async def test_a_body_of_another_length_than_was_said_is_refused(mesh, length: str, method: str):
    async with connected(mesh) as peer:
        true = peer.open(method, framed(b"1"), content_length="6")
        lie = peer.open(method, framed(b"1"), content_length=length)
        await peer.read(lambda: {true, lie} <= peer.status.keys())
        assert (peer.status[true], peer.status[lie]) == ("0", "13")


async def test_a_second_request_where_one_is_taken_is_refused_before_the_call_ends(mesh):
    async with connected(mesh) as peer:
        stream = peer.open("Large", framed(b"1") * 2, ended=False)
        await peer.read(lambda: stream in peer.status)
        assert peer.status[stream] == "13"


async def test_answers_that_nobody_reads_are_kept_up_to_a_bound(mesh):
    mesh.server.memory = Memory(1 << 20)
    async with connected(mesh, window=0) as peer:
        streams = [peer.open("Large", framed(b"400000")) for _ in range(3)]
        async with asyncio.timeout(5):
            while mesh.server.memory.kept < 800_000:
                await asyncio.sleep(0.01)
        await peer.read(lambda: streams[-1] in peer.status)
        assert peer.status == {streams[-1]: "8"}
        for stream in streams[:-1]:
            peer.h2.reset_stream(stream)
        peer.writer.write(peer.h2.data_to_send())
        async with asyncio.timeout(5):
            while mesh.server.memory.kept:
                await asyncio.sleep(0.01)


async def test_an_answer_under_way_comes_whole_before_the_server_ends(mesh):
    async with connected(mesh, window=100_000) as peer:
        stream = peer.open("Large", framed(b"300000"))
        await peer.read(lambda: len(peer.bodies[stream]) >= 65535)
        stopping = asyncio.create_task(mesh.server.stop(5))
        await asyncio.sleep(0.5)
        assert not stopping.done()
        more = (1 << 20).to_bytes(4, "big")
        peer.writer.write(frame(Kind.WINDOW_UPDATE, 0, 0, more) + frame(Kind.WINDOW_UPDATE, 0, stream, more))
        rest, size = await peer.reader.read(), len(peer.bodies[stream])
        while rest:  # that library reads nothing after GOAWAY
            length = int.from_bytes(rest[:3], "big")
            size += length if rest[3] == Kind.DATA else 0
            rest = rest[9 + length :]
        assert size == 300_005
        await asyncio.wait_for(stopping, 5)


async def test_callbacks_are_all_called_and_a_message_that_is_no_text_is_told_as_it_can_be(mesh):
    async with connected(mesh) as peer:
        stream = peer.open("Told", framed(b""))
        await peer.read(lambda: stream in peer.status)
        assert peer.status[stream] == "5"
        async with asyncio.timeout(5):
            while not mesh.odd.seen:
                await asyncio.sleep(0.01)
        assert mesh.odd.seen == ["over True"]


async def test_a_call_that_cancels_itself_is_told_to_its_caller(mesh):
    async with connected(mesh) as peer:
        peer.open("Breaks", framed(b""))
        await peer.read(lambda: peer.ended)
        assert peer.ended[0].error_code == h2.errors.ErrorCodes.INTERNAL_ERROR


async def test_roots_that_left_the_bundle_are_trusted_no_longer(mesh, tmp_path_factory):
    other = Mesh(tmp_path_factory.mktemp("other"))
    mesh.svid.current = SvidSource(other.issue("engine", tmp_path_factory.mktemp("issued"))).current
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        async with connected(mesh):
            pass
    mesh.client = other.client
    async with connected(mesh) as peer:
        stream = peer.open("Large", framed(b"1"))
        await peer.read(lambda: stream in peer.status)
