"""What a service is to the mesh, and what the mesh gives a service.

A service's `app.py` has `async def build(mesh: Mesh) -> Service` and is the only place that wires. Starting,
serving and draining live in `mesh.host`, not here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from mesh.channel import Channels
from mesh.config import Settings
from mesh.db import Database
from mesh.pagination import Pages
from mesh.policy_holder import PolicyHolder
from mesh.record import Recorder
from mesh.sandbox import SandboxPool
from mesh.svid import SvidSource
from mesh.tracing import Tracer

__all__ = ["Mesh", "Registration", "Service"]


class Registration(Protocol):
    """A generated `add_…Servicer_to_server` function."""

    def __call__(self, servicer: Any, server: Any) -> None:  # noqa: ANN401 -- any generated servicer, any server of it
        """Add the servicer to the server."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """What a service may stand on.

    Attributes:
        settings: everything the operator said, validated.
        process: which process of the service this is, `engine-2`; the first one's name is the service's.
        state: the process's own folder under the home, mode 0700.
        database: the service's own database, migrated.
        channels: stubs to the other services.
        sandbox: where jq programs and decisions run.
        svid: the service's own certificate and key, renewed as time goes on.
        registry: where the service's figures are collected.
        pages: makes and checks page tokens.
        tracer: sends spans.
        policy: who may do what; for rules that go beyond what the contract says.
        recorder: keeps records, also of what ends outside calls.
    """

    settings: Settings
    process: str
    state: Path
    database: Database
    channels: Channels
    sandbox: SandboxPool
    svid: SvidSource
    registry: CollectorRegistry
    pages: Pages
    tracer: Tracer
    policy: PolicyHolder
    recorder: Recorder


async def _nothing() -> None:
    """Do nothing: the default for services that have nothing to begin or to end."""


@dataclass(frozen=True, slots=True)
class Service:
    """A built service.

    Attributes:
        servicers: pairs of a generated registration function and the servicer it registers.
        start: called once the server listens.
        background: work that never ends, begun after `start` and cancelled before `drain`. If it ends by itself all the
            same, the process ends with it.
        drain: ends open streams when the service is about to stop, before calls under way are waited for.
        stop: called after the last call was answered.
        reflected: further services, by full name, that reflection shows.
    """

    servicers: Sequence[tuple[Registration, Any]]
    start: Callable[[], Awaitable[None]] = _nothing
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    drain: Callable[[], Awaitable[None]] = _nothing
    stop: Callable[[], Awaitable[None]] = _nothing
    reflected: Sequence[str] = ()
