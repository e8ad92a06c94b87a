"""A service's life in its process: settings, identity, database, policy, server, and an orderly end.

What the service does is its own `app.build`'s matter.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Self

import structlog
import uvloop
from prometheus_client import Gauge
from tiation.security.v1 import workload_pb2, workload_pb2_grpc

from mesh.channel import Channels
from mesh.config import LimitSettings, Settings, load_settings, process_name
from mesh.db import Database, await_database, open_database
from mesh.errors import TiationError
from mesh.identity import issuer_of
from mesh.interceptor import Stages
from mesh.live import LastingCalls
from mesh.migrate import migrate
from mesh.page_key import page_key
from mesh.pagination import Pages
from mesh.policy_holder import PolicyHolder
from mesh.record import Recorder, Relay
from mesh.sandbox import SandboxPool
from mesh.server import MeshServer
from mesh.service import Mesh, Service
from mesh.snapshot import Limits
from mesh.spool import Spool
from mesh.stages.access import AccessStage
from mesh.stages.identity import IdentityStage
from mesh.stages.limits import LimitStage
from mesh.stages.metrics import CallMetrics
from mesh.stages.trace import TraceStage
from mesh.stages.validation import ValidationStage
from mesh.svid import SvidSource
from mesh.telemetry import new_registry, serve_metrics, set_up_logs
from mesh.tracing import Tracer

__all__ = ["SWITCH_S", "Build", "Host", "run"]

Build = Callable[[Mesh], Awaitable[Service]]

SWITCH_S = 0.0005
"""How long a thread may keep the others from running: the loop waits for database threads at every call, and Python's
own five milliseconds would be most of such a call's time under load."""


def run(service: str, build: Build, home: Path, replica: int = 1) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Exits with 1 and one line when the service cannot start."""
    settings = load_settings(home)
    set_up_logs(service, settings.log_level)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what has been read in stays
    try:
        uvloop.run(_run(Host(service, build, home, settings, replica)))
    except TiationError as error:
        structlog.get_logger("mesh.host").error("service stopped", reason=error.reason, error=error.message)
        sys.exit(1)


async def _run(hosting: Host) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with hosting as host:
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait((waiting, host.broken), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if host.broken.done():
            host.broken.result()


class Host:
    """One running service.

    Args:
        service: its name.
        build: its composition root.
        home: the state folder of the platform.
        settings: everything the operator said.
        replica: which of the service's processes it is, counted from 1.
    """

    def __init__(self, service: str, build: Build, home: Path, settings: Settings, replica: int = 1) -> None:
        self._service = service
        self._process = process_name(service, replica)
        self._build = build
        self._state = home / self._process
        self._settings = settings
        self._stack = AsyncExitStack()
        self._log = structlog.get_logger("mesh.host")
        self.port = 0

    async def __aenter__(self) -> Self:
        """Start; returns when the service is serving."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:  # what was opened before is closed, whatever kept the rest from it
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain and stop."""
        self._log.info("service draining")
        await self._stack.aclose()
        if not self.broken.done():
            self.broken.cancel()
        self._log.info("service stopped")

    async def _start(self) -> None:
        settings, state, service = self._settings, self._state, self._service
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        svid = SvidSource(state / "svid.json")
        database = await self._database()
        channels = Channels(service, settings.trust_domain, settings.services, svid)
        self._stack.push_async_callback(channels.close)
        sandbox = SandboxPool()
        await sandbox.start()
        self._stack.push_async_callback(sandbox.close)
        holder = PolicyHolder(
            state / "policy.json", issuer=issuer_of(settings.trust_domain), stale_s=settings.policy_stale_s
        )
        registry = new_registry()
        unheard = Gauge("tiation_policy_unheard_seconds", "Since security was last heard of.", registry=registry)
        unheard.set_function(lambda: holder.unheard_s)
        endpoint = settings.services[self._process]
        self._stack.callback(serve_metrics(registry, endpoint.metrics_port))
        spool = Spool(state)
        self._stack.callback(spool.close)
        recorder = Recorder(service, database, spool)
        relay = Relay(recorder, database, channels)
        tracer = Tracer(service, settings.tracing)
        self._stack.push_async_callback(asyncio.to_thread, tracer.close)
        pages = Pages(await page_key(database))
        mesh = Mesh(
            settings, self._process, state, database, channels, sandbox, svid, registry, pages, tracer, holder, recorder
        )
        built = await self._build(mesh)
        access = AccessStage(holder)
        lasting = LastingCalls(access.again)
        stages = Stages(
            TraceStage(tracer),
            CallMetrics(registry),
            recorder,
            IdentityStage(service, settings.trust_domain, holder),
            _limit_stage(settings.limits, holder),
            access,
            ValidationStage(),
            lasting,
        )
        server = MeshServer(built.servicers, stages, svid, built.reflected)
        await server.listen(endpoint.address, early=service == "security")  # which asks itself for its policy
        self.port = server.port
        self._stack.push_async_callback(built.stop)
        self._stack.push_async_callback(self._drain, server, built, relay)
        self._own(holder.follow(channels))
        self._own(relay.run())
        self._own(lasting.run())
        self._own(svid.renew_forever(_renewal(channels)))
        await holder.started()
        await built.start()
        for work in built.background:
            self._own(work())
        await server.serving()
        self._log.info("service serving", address=endpoint.address, pid=os.getpid())

    async def _database(self) -> Database:
        """Open and migrate the service's database; a folder of migrations belongs to every service."""
        location = self._settings.database or f"sqlite:///{self._state / self._service}.db"

        def say(text: str) -> None:
            self._log.info("service waiting", reason=text)

        await asyncio.to_thread(await_database, location, say, schema=self._service)
        database = open_database(location, schema=self._service)
        self._stack.push_async_callback(database.close)
        versions = Path(sys.modules[self._build.__module__].__file__ or "").parent / "migrations" / "versions"
        await asyncio.to_thread(self._migrate, database, versions)
        return database

    @staticmethod
    def _migrate(database: Database, versions: Path) -> None:
        migrate(database.engine, Path(__file__).parent / "migrations" / "versions", version_table="mesh_version")
        if versions.is_dir():
            migrate(database.engine, versions)

    async def _drain(self, server: MeshServer, built: Service, relay: Relay) -> None:
        await built.drain()
        await server.drain(self._settings.drain_s)
        with suppress(Exception):  # what cannot be shipped now stays in the spool for the next start
            await relay.ship_rest()

    def _own(self, work: Awaitable[None]) -> None:
        """Run background work that never ends; if it does all the same, the service ends with it."""

        async def guarded() -> None:
            await work

        task = asyncio.get_running_loop().create_task(guarded())

        wanted = False

        def ended(finished: asyncio.Task[None]) -> None:
            if wanted or self.broken.done():
                return
            error = None if finished.cancelled() else finished.exception()
            self.broken.set_exception(error or RuntimeError(f"{work} ended, though nobody wanted it to"))

        async def cancel() -> None:
            nonlocal wanted
            wanted = True
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):  # its error has been told through `broken`
                await task

        task.add_done_callback(ended)
        self._stack.push_async_callback(cancel)


def _limit_stage(settings: LimitSettings, holder: PolicyHolder) -> LimitStage:
    """The limits, with what the settings say of those of whom the policy says nothing."""
    each = Limits(settings.requests_per_second, settings.burst, settings.concurrent_calls)
    total = Limits(settings.tenant_requests_per_second, settings.tenant_burst, settings.tenant_concurrent_calls)
    return LimitStage(holder.policy, each, total)


def _renewal(channels: Channels) -> Callable[[bytes], Awaitable[tuple[str, str]]]:
    async def renew(request: bytes) -> tuple[str, str]:
        stub = channels.stub(workload_pb2_grpc.WorkloadServiceStub, "security")
        answer = await stub.RenewSvid(workload_pb2.RenewSvidRequest(csr=request), timeout=10.0)
        return answer.certificate_chain, answer.trust_bundle

    return renew
