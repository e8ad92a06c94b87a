"""The supervisor's own life: start everything in order, keep it running and its papers fresh, stop it in order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
from tiation.security.v1 import token_pb2, token_pb2_grpc

from cli.gateway import process
from cli.gateway.render import write_configuration
from cli.home import Home
from cli.supervisor.certificates import Certificates
from cli.supervisor.child import Child
from cli.supervisor.health import is_serving, mesh_channel
from cli.supervisor.ports import check_free, choose_ports
from mesh.config import SERVICES, Endpoint, Settings
from mesh.errors import Code, TiationError
from mesh.svid import write_private

__all__ = ["StartError", "Supervisor"]

CLONE = Path(__file__).parents[2]
_START_S = 60.0
_TOKEN_S = 3600
_MAX_LOG_BYTES = 32 * 1024 * 1024
_LEAST_FREE_BYTES = 64 * 1024 * 1024


class StartError(TiationError):
    """A process does not come up."""

    code = Code.UNAVAILABLE
    reason = "START_FAILED"


class Supervisor:
    """Runs one platform.

    Args:
        home: its home, held by this process.
        settings: everything the operator said.
        say: tells the person who started it.
    """

    def __init__(self, home: Home, settings: Settings, say: Callable[[str], None]) -> None:
        self._home = home
        self._say = say
        self._settings = self._with_addresses(settings)
        self._children: dict[str, Child] = {}
        self._ready = False
        self._stop = asyncio.Event()
        self._certificates: Certificates

    async def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Start, tell `ready` what `gateway.json` says, and stay until SIGTERM or SIGINT.

        Raises:
            TiationError: something cannot start; everything that did was stopped again.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        self._home.gateway_file.unlink(missing_ok=True)
        self._check_machine()
        envoy = process.find_envoy(self._settings)
        self._certificates = Certificates(self._home, self._settings)
        configuration = write_configuration(self._settings, self._home.path)
        chores: list[asyncio.Task[None]] = []
        try:
            self._start_children(process.arguments(envoy, configuration))
            starting = asyncio.create_task(self._until_ready())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not starting.done():
                starting.cancel()
                return
            starting.result()
            self._ready = True
            self._write_gateway_file()
            ready(self._gateway())
            chores = [asyncio.create_task(self._renew_certificates()), asyncio.create_task(self._renew_token())]
            chores.append(asyncio.create_task(self._trim_logs()))
            await self._stop.wait()
        finally:
            for chore in chores:
                chore.cancel()
            self._ready = False
            self._home.gateway_file.unlink(missing_ok=True)
            await self._stop_children()

    def _check_machine(self) -> None:
        gateway = self._settings.gateway
        check_free(gateway.host, gateway.port)
        free = shutil.disk_usage(self._home.path).free
        if free < _LEAST_FREE_BYTES:
            raise StartError(
                f"only {free // 2**20} MiB are free under {self._home.path}; the platform needs at least "
                f"{_LEAST_FREE_BYTES // 2**20} MiB to start"
            )

    def _start_children(self, envoy: list[str]) -> None:
        environment = dict(os.environ)
        for name, endpoint in self._settings.services.items():
            environment[f"TIATION_SERVICES__{name.upper()}__ADDRESS"] = endpoint.address
            environment[f"TIATION_SERVICES__{name.upper()}__METRICS_PORT"] = str(endpoint.metrics_port)
        environment.setdefault("TIATION_ENGINE__SYSTEM_MODELS", str(CLONE / ".models"))
        environment["TIATION_GATEWAY__PORT"] = str(self._settings.gateway.port)
        environment["PYTHONUNBUFFERED"] = "1"
        for service in SERVICES:
            command = [sys.executable, "-m", "cli.main", "serve", service, "--home", str(self._home.path)]
            self._add(service, command, environment, partial(self._certificates.lay, service))
        self._add("envoy", envoy, {}, lambda: None)

    def _add(self, name: str, command: list[str], environment: dict[str, str], prepare: Callable[[], object]) -> None:
        child = self._children[name] = Child(
            name,
            command,
            environment=environment,
            log=self._home.log(name),
            prepare=prepare,
            changed=self._write_gateway_file,
        )
        child.start()

    async def _until_ready(self) -> None:
        """Wait until every process serves, saying so as they do."""
        deadline = time.monotonic() + _START_S
        for name, child in self._children.items():
            began = time.monotonic()
            said = False
            while not await self._serves(name):
                if child.failures >= 3:
                    raise StartError(f"{name} does not start; its last words were:\n{child.last_words()}", service=name)
                if time.monotonic() > deadline:
                    raise StartError(
                        f"{name} was not ready in {_START_S:.0f} s; see {self._home.log(name)}", service=name
                    )
                if not said and time.monotonic() - began > 0.7:
                    self._say(f"  waiting for {name} …")
                    said = True
                await asyncio.sleep(0.05)
            self._say(f"  {name} is serving")
        await self._new_token()

    async def _serves(self, name: str) -> bool:
        if name == "envoy":
            return await process.is_live(self._home.path)
        endpoint = self._settings.services[name]
        return await is_serving(endpoint.address, name, self._settings.trust_domain, self._certificates.own)

    async def _stop_children(self) -> None:
        """The front door first, security last."""
        grace_s = self._settings.drain_s + 5.0
        for name in ("envoy", *reversed(SERVICES)):
            child = self._children.get(name)
            if child is None:
                continue
            before = (lambda: process.drain(self._home.path)) if name == "envoy" else None
            await child.stop(3.0 if name == "envoy" else grace_s, before)
            self._say(f"  {name} stopped")

    async def _renew_certificates(self) -> None:
        while True:
            await asyncio.sleep(self._settings.security.svid_ttl_s / 2)
            await asyncio.to_thread(self._certificates.renew)

    async def _renew_token(self) -> None:
        while True:
            await asyncio.sleep(_TOKEN_S / 3)
            pause_s = 1.0
            while True:
                try:
                    await self._new_token()
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, 30.0)
                else:
                    break

    async def _new_token(self) -> None:
        """Put a fresh token into the token file."""
        endpoint = self._settings.services["security"]
        request = token_pb2.ExchangeApiKeyRequest(
            parent="tenants/default", api_key=self._home.operator_key.read_text().strip()
        )
        request.ttl.FromSeconds(_TOKEN_S)
        channel = mesh_channel(endpoint.address, "security", self._settings.trust_domain, self._certificates.own)
        async with channel:
            answer = await token_pb2_grpc.TokenServiceStub(channel).ExchangeApiKey(request, timeout=10.0)
        write_private(self._home.token_file, f"{answer.token}\n")

    async def _trim_logs(self) -> None:
        """Keep logs from filling the disk: a full one is copied aside, once, and emptied."""
        while True:
            await asyncio.sleep(60.0)
            for log in (self._home.path / "logs").glob("*.log"):
                with suppress(OSError):
                    if log.stat().st_size > _MAX_LOG_BYTES:
                        await asyncio.to_thread(shutil.copyfile, log, log.with_suffix(".log.1"))
                        os.truncate(log, 0)

    def _write_gateway_file(self) -> None:
        if self._ready:
            write_private(self._home.gateway_file, json.dumps(self._gateway(), indent=1))

    def _gateway(self) -> dict[str, Any]:
        services: dict[str, Any] = {
            name: {
                "address": endpoint.address,
                "metrics": f"http://127.0.0.1:{endpoint.metrics_port}/metrics",
                "pid": self._children[name].pid,
            }
            for name, endpoint in self._settings.services.items()
        }
        services["envoy"] = {"pid": self._children["envoy"].pid}
        gateway = self._settings.gateway
        host = "127.0.0.1" if gateway.host == "0.0.0.0" else gateway.host  # noqa: S104 -- compared, not bound
        return {
            "url": f"https://{host}:{gateway.port}",
            "ca": str(self._home.ca),
            "token_file": str(self._home.token_file),
            "supervisor": {"pid": os.getpid()},
            "services": services,
        }

    @staticmethod
    def _with_addresses(settings: Settings) -> Settings:
        ports = choose_ports(2 * len(SERVICES))
        services = {
            name: Endpoint(address=f"127.0.0.1:{ports[2 * at]}", metrics_port=ports[2 * at + 1])
            for at, name in enumerate(SERVICES)
        }
        return msgspec.structs.replace(settings, services=services)
