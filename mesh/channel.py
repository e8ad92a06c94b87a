"""Channels to the other services: mTLS, swapped when the certificate changes, the caller passed on.

Which service lives where comes from the settings; what an answer means is up to the one who asked.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc.aio

from mesh.assertion import sign
from mesh.config import Endpoint
from mesh.errors import Code, TiationError
from mesh.identity import Requester, spiffe_id
from mesh.svid import Svid, SvidSource
from mesh.tracing import TRACE_HEADER, current_trace

__all__ = ["ASSERTION_HEADER", "Channels", "ServiceUnknownError", "closed_under_it"]

ASSERTION_HEADER = "x-tiation-assertion"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_DRAIN_S = 25 * 60.0
"""Longer than a server lets a connection live: on a replaced channel every call ends by itself, streams too."""
_ASSERTION_REUSE_S = 20.0
_MAX_ASSERTIONS = 4096
_BALANCED = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})

S = TypeVar("S")


class ServiceUnknownError(TiationError):
    """The settings do not say where a service listens."""

    code = Code.FAILED_PRECONDITION
    reason = "SERVICE_ADDRESS_MISSING"


@dataclass(slots=True)
class _Line:
    """A channel with the certificate it was opened with and the stubs made on it."""

    channel: grpc.aio.Channel
    svid: Svid
    stubs: dict[type, Any] = field(default_factory=dict)


class Channels:
    """One channel a service, opened when first needed.

    Args:
        service: who calls.
        trust_domain: the mesh's SPIFFE trust domain.
        endpoints: where each service listens.
        svid: the caller's certificate.
    """

    def __init__(self, service: str, trust_domain: str, endpoints: Mapping[str, Endpoint], svid: SvidSource) -> None:
        self._identity = spiffe_id(trust_domain, service)
        self._trust_domain = trust_domain
        self._endpoints = endpoints
        self._svid = svid
        self._lines: dict[str, _Line] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._assertions: dict[tuple[str, Requester], tuple[float, Svid, str]] = {}

    def stub(self, stub: Callable[[grpc.aio.Channel], S], service: str) -> S:
        """A stub on the channel that holds now; ask for it anew for each call, it costs a look-up.

        Raises:
            ServiceUnknownError: the settings name no address for the service.
        """
        line = self._lines.get(service)
        if line is None or line.svid is not self._svid.current:
            line = self._open(service, line)
        made = line.stubs.get(stub)  # type: ignore[call-overload]
        if made is None:
            made = line.stubs[stub] = stub(line.channel)  # type: ignore[index]
        return made  # type: ignore[no-any-return]

    def on_behalf(self, service: str, requester: Requester) -> tuple[tuple[str, str], ...]:
        """Metadata that says, signed and for one minute, for whom a call to `service` is made; and in which trace."""
        now = time.time()
        key = (service, requester)
        kept = self._assertions.get(key)
        if kept is None or kept[0] < now or kept[1] is not self._svid.current:
            if len(self._assertions) >= _MAX_ASSERTIONS:
                self._assertions.clear()
            svid = self._svid.current
            signed = sign(svid.key, requester, issuer=self._identity, audience=service, now=now)
            kept = self._assertions[key] = (now + _ASSERTION_REUSE_S, svid, signed)
        trace = current_trace.get()
        if trace is None:
            return ((ASSERTION_HEADER, kept[2]),)
        return ((ASSERTION_HEADER, kept[2]), (TRACE_HEADER, trace.header()))

    async def close(self) -> None:
        """Close every channel."""
        for task in self._draining:
            task.cancel()
        for line in self._lines.values():
            await line.channel.close(grace=None)

    def _open(self, service: str, old: _Line | None) -> _Line:
        target = _target(service, self._endpoints)
        options = [
            # Calls go to all processes of a service in turn, past those that are dead or say that they do not serve.
            ("grpc.service_config", _BALANCED),
            ("grpc.ssl_target_name_override", f"{service}.{self._trust_domain}"),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        channel = grpc.aio.secure_channel(target, self._svid.channel_credentials(), options=options)
        line = self._lines[service] = _Line(channel, self._svid.current)
        if old is not None:
            task = asyncio.get_running_loop().create_task(_drain(old.channel))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
        return line


def _target(service: str, endpoints: Mapping[str, Endpoint]) -> str:
    """Where gRPC finds a service: one address as it is, several as a list of IP addresses.

    Raises:
        ServiceUnknownError: there is none.
    """
    addresses = [
        endpoint.address
        for process, endpoint in endpoints.items()
        if endpoint.address and (process == service or process.rpartition("-")[0] == service)
    ]
    if not addresses:
        raise ServiceUnknownError(f"set services.{service}.address to where {service} listens", service=service)
    if len(addresses) == 1:
        return addresses[0]
    return f"{'ipv6' if addresses[0].startswith('[') else 'ipv4'}:{','.join(addresses)}"


def closed_under_it() -> bool:
    """Whether a CancelledError that has come out of a call is its channel's end, and not that of the task it is in.

    grpc.aio ends the calls on a channel that is closed so; whoever goes on for ever must not take it for their own end.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


async def _drain(channel: grpc.aio.Channel) -> None:
    """Let the calls on a replaced channel finish, then close it."""
    await channel.close(grace=_DRAIN_S)
