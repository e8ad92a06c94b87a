"""A platform in the test's own process: real services on free ports, real certificates, no front proxy.

`gateway` is a channel with the gateway's certificate, as Envoy has it: calls on it carry a user's token.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import grpc.aio
import msgspec
from tiation.security.v1 import token_pb2, token_pb2_grpc

from mesh.config import SERVICES, Endpoint, Settings
from mesh.host import Host
from mesh.svid import write_private
from security.app import bootstrap, issue_svid
from tests.fakes.ports import free_ports


@dataclass
class Platform:
    """Services that run, and ways to call them."""

    home: Path
    settings: Settings
    stack: AsyncExitStack
    hosts: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, service: str) -> None:
        """Start a service."""
        self.lay_svid(service)
        build = importlib.import_module(f"{service}.app").build
        own = AsyncExitStack()
        await own.enter_async_context(Host(service, build, self.home, self.settings))
        self.hosts[service] = own

    async def stop(self, service: str) -> None:
        """Drain and stop a service."""
        await self.hosts.pop(service).aclose()

    def lay_svid(self, workload: str) -> dict[str, str]:
        """Give a workload its certificate."""
        document = issue_svid(self.home, self.settings, workload)
        (self.home / workload).mkdir(mode=0o700, exist_ok=True)
        write_private(self.home / workload / "svid.json", json.dumps(document))
        return document

    def channel(self, service: str, workload: str = "gateway", **options: object) -> grpc.aio.Channel:
        """A channel to a service with a workload's certificate; options of gRPC's by the end of their names."""
        svid = issue_svid(self.home, self.settings, workload)
        return secure_channel(self.address(service), service, svid, {f"grpc.{key}": options[key] for key in options})

    def address(self, service: str) -> str:
        """Where a service listens."""
        return self.settings.services[service].address

    async def token(self, *, tenant: str = "default", role: str = "", key: str = "") -> tuple[str, str]:
        """The authorization header for an API key, the operator's by default."""
        text = key or (self.home / "operator.key").read_text().strip()
        async with self.channel("security") as channel:
            stub = token_pb2_grpc.TokenServiceStub(channel)
            request = token_pb2.ExchangeApiKeyRequest(parent=f"tenants/{tenant}", api_key=text, role=role)
            answer = await stub.ExchangeApiKey(request)
        return ("authorization", f"Bearer {answer.token}")


def secure_channel(
    address: str, service: str, svid: dict[str, str], more: Mapping[str, object] = MappingProxyType({})
) -> grpc.aio.Channel:
    """A channel with a certificate, to a service of the test's trust domain."""
    credentials = grpc.ssl_channel_credentials(
        svid["trust_bundle"].encode(), svid["private_key"].encode(), svid["certificate_chain"].encode()
    )
    options = [
        ("grpc.ssl_target_name_override", f"{service}.tiation.local"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
        *more.items(),
    ]
    return grpc.aio.secure_channel(address, credentials, options=options)


@asynccontextmanager
async def platform(home: Path, services: Sequence[str] = ("security",), **settings: object) -> AsyncIterator[Platform]:
    """A platform with some of the services; stopped, newest first, at the end."""
    names = SERVICES
    ports = free_ports(2 * len(names))
    endpoints = {
        name: Endpoint(address=f"127.0.0.1:{ports[2 * i]}", metrics_port=ports[2 * i + 1])
        for i, name in enumerate(names)
    }
    chosen = msgspec.structs.replace(Settings(), services=endpoints, drain_s=2.0, **settings)
    bootstrap(home, chosen)
    async with AsyncExitStack() as stack:
        made = Platform(home, chosen, stack)
        try:
            for service in services:
                await made.start(service)
            yield made
        finally:
            for service in reversed(list(made.hosts)):
                await made.stop(service)
