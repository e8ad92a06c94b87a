"""An HTTP server of a test's own, on a real socket, with TLS where a test wants it; it answers what the test says.

It speaks plain HTTP/1.1 by hand, so that it can also answer what no honest server would.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Asked", "HangupError", "Peer", "Reply", "certificates", "peer", "reply", "serving"]


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def basic(self) -> str:
        return base64.b64decode(self.headers["authorization"].removeprefix("Basic ")).decode()


@dataclass
class Reply:
    """What to answer; `raw` is written as it is, and `after` is awaited between its parts."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: list[bytes] | None = None
    pause_s: float = 0.0


class HangupError(Exception):
    """Close the connection without an answer."""


def reply(value: Any = None, status: int = 200, **headers: str) -> Reply:
    """A JSON answer."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, {"content-type": "application/json"} | named, json.dumps(value).encode())


Handler = Callable[[Asked], Reply | Awaitable[Reply]]


@dataclass
class Peer:
    """A running server.

    Attributes:
        handler: answers.
        asked: every request, in order.
        port: where it listens, on 127.0.0.1.
        connections: how many were opened.
    """

    handler: Handler
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, HangupError, asyncio.CancelledError, ssl.SSLError):
            while True:
                asked = await self._read(reader)
                self.asked.append(asked)
                answer = self.handler(asked)
                if not isinstance(answer, Reply):
                    answer = await answer
                await self._write(writer, answer, asked)
                if answer.raw is not None:
                    break
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError):
            await writer.wait_closed()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Asked:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): text for name, text in headers.items()}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Asked(method, target, headers, body)

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, answer: Reply, asked: Asked) -> None:
        if answer.raw is not None:
            for part in answer.raw:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(answer.pause_s)
            return
        headers = {"content-length": str(len(answer.body))} | answer.headers
        lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {text}" for name, text in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + (b"" if asked.method == "HEAD" else answer.body))
        await writer.drain()


@asynccontextmanager
async def peer(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A server on a free port of loopback."""
    made = Peer(handler, tls)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await made.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks), timeout=5)


@contextmanager
def serving(handler: Handler) -> Iterator[Peer]:
    """The same on a thread of its own, for tests that block."""
    loop = asyncio.new_event_loop()
    ready: Future[Peer] = Future()
    ended = asyncio.Event()

    async def serve() -> None:
        async with peer(handler) as made:
            ready.set_result(made)
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


def certificates(*names: str) -> tuple[str, ssl.SSLContext]:
    """A certificate authority (PEM) and a server's TLS with a certificate of its for these names."""
    now = dt.datetime.now(dt.UTC)

    def certificate(name: str, key: Any, issuer: Any, signer: Any, *extensions: Any) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer_name=issuer, subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(), serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(minutes=5), not_valid_after=now + dt.timedelta(days=1),
        )  # fmt: skip
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(signer, hashes.SHA256())

    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = certificate(
        "authority of a test", ca_key, authority, ca_key, x509.BasicConstraints(ca=True, path_length=None), usage,
        identifier,
    )  # fmt: skip
    alternatives = [_alternative(name) for name in names]
    leaf = certificate(
        names[0], key, authority, ca_key, x509.SubjectAlternativeName(alternatives),
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path)
    return ca.public_bytes(serialization.Encoding.PEM).decode(), context


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
