"""The supervisor's own life: start everything in order, keep it running and its papers fresh, stop it in order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

import msgspec
from tiation.security.v1 import token_pb2, token_pb2_grpc

from cli.assets import CLONE
from cli.gateway import process
from cli.gateway.render import write_configuration
from cli.home import Home
from cli.supervisor.certificates import Certificates
from cli.supervisor.child import Child
from cli.supervisor.chores import repeat
from cli.supervisor.ends import note_end
from cli.supervisor.health import is_serving, mesh_channel
from cli.supervisor.ports import check_free, choose_ports
from mesh.config import Endpoint, Settings, processes_of
from mesh.errors import Code, TiationError
from mesh.svid import write_private

__all__ = ["STOPPING", "StartError", "Supervisor"]

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""What ends a platform in order."""
_START_S = 60.0
_ATTEMPTS = 3
"""A process that ended so often before it served will not serve."""
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
        warn: the same of what should not have been; without it as `say`.
    """

    def __init__(
        self, home: Home, settings: Settings, say: Callable[[str], None], warn: Callable[[str], None] | None = None
    ) -> None:
        self._home = home
        self._say = say
        self._warn = warn or say
        self._processes = processes_of(settings)
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
        for number in STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # what came while nobody listened comes now
        self._home.gateway_file.unlink(missing_ok=True)
        managed = self._settings.gateway.managed
        if not managed:
            await self._quit_envoy()
        self._check_machine()
        await self._await_database()
        envoy = process.find_envoy(self._settings) if managed else None
        self._certificates = Certificates(self._home, self._settings)
        configuration = write_configuration(self._settings, self._home.path)
        chores: list[asyncio.Task[None]] = []
        try:
            self._make_children(process.arguments(envoy, configuration) if envoy is not None else None)
            # At once: a slow start must not outlive the certificates that it began with.
            chores.append(asyncio.create_task(self._certificates_chore()))
            if not await self._unless_stopped(self._start_children()):
                return
            self._ready = True
            self._write_gateway_file()
            self._write_targets()
            ready(self._gateway())
            chores += [asyncio.create_task(chore) for chore in self._chores()]
            await self._stop.wait()
        finally:
            self._ready = False
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            self._home.gateway_file.unlink(missing_ok=True)
            await self._stop_children()

    def _on_signal(self) -> None:
        """Stop in order at first, at once when asked again."""
        if self._stop.is_set():
            self._say("Not waiting any longer")
            for child in self._children.values():
                child.kill()
        self._stop.set()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work; false when it was given up because somebody wants the platform stopped."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            ended, _ = await asyncio.gather(working, stopping, return_exceptions=True)
        return not isinstance(ended, asyncio.CancelledError)

    def _check_machine(self) -> None:
        gateway = self._settings.gateway
        check_free(gateway.host, gateway.port)
        free = shutil.disk_usage(self._home.path).free
        if free < _LEAST_FREE_BYTES:
            raise StartError(
                f"only {free // 2**20} MiB are free under {self._home.path}; the platform needs at least "
                f"{_LEAST_FREE_BYTES // 2**20} MiB to start"
            )

    async def _await_database(self) -> None:
        """See that PostgreSQL can be used before anything is started; nothing is to be seen for SQLite."""
        location = self._settings.database
        if location:
            from mesh.db import (
                await_database,
            )  # which takes SQLAlchemy along; without PostgreSQL there is no need of it

            await asyncio.to_thread(await_database, location, lambda text: self._say(f"{text} …"))

    def _make_children(self, envoy: list[str] | None) -> None:
        environment = dict(os.environ)
        for name, endpoint in self._settings.services.items():
            environment[f"TIATION_SERVICES__{name.upper()}__ADDRESS"] = endpoint.address
            environment[f"TIATION_SERVICES__{name.upper()}__METRICS_PORT"] = str(endpoint.metrics_port)
        environment.setdefault("TIATION_ENGINE__SYSTEM_MODELS", str(CLONE / ".models"))
        environment["TIATION_GATEWAY__PORT"] = str(self._settings.gateway.port)
        environment["PYTHONUNBUFFERED"] = "1"
        environment["ORT_DISABLE_TELEMETRY"] = "1"  # whatever imports ONNX Runtime, and however early
        for name, service in self._processes.items():
            # -P: what lies in the folder that the user happens to be in must not stand in for our packages
            command = [sys.executable, "-P", "-m", "cli.main", "serve", service, "--home", str(self._home.path)]
            if name != service:
                command += ["--replica", name.rpartition("-")[2]]
            self._add(name, command, environment, partial(self._certificates.lay, service, name))
        if envoy is not None:
            self._add("envoy", envoy, {}, lambda: None)

    def _add(self, name: str, command: list[str], environment: dict[str, str], prepare: Callable[[], object]) -> None:
        self._children[name] = Child(
            name,
            command,
            environment=environment,
            log=self._home.log(name),
            prepare=prepare,
            changed=self._write_gateway_file,
            say=lambda text: self._warn(text) if self._ready else None,  # before, `_until_serving` says it
            ended=partial(self._note_end, name),
        )

    async def _start_children(self) -> None:
        """Start everything side by side: whoever needs another one waits for it by itself."""
        deadline = time.monotonic() + _START_S
        for child in self._children.values():
            child.start()
        for name in (*self._processes, "envoy"):
            await self._until_serving(name, deadline)
        await self._new_token()

    async def _until_serving(self, name: str, deadline: float) -> None:
        child, began, said = self._children.get(name), time.monotonic(), False
        while not await self._serves(name):
            if child is not None and child.failures >= _ATTEMPTS:
                await self._give_up(name, f"its last words, of {self._home.log(name)}, were:\n{child.last_words()}")
            see = f"see {self._home.log(name)}" if child is not None else "see its own log: gateway.managed is false"
            if name == "envoy" and await process.is_deaf(self._home.path):
                await self._give_up(name, see)
            if time.monotonic() > deadline:
                raise StartError(f"{name} was not ready in {_START_S:.0f} s; {see}", service=name)
            if not said and time.monotonic() - began > 0.7:
                self._say(f"waiting for {name} …")
                said = True
            await asyncio.sleep(0.05)
        self._say(f"{name} is serving")

    async def _give_up(self, name: str, see: str) -> NoReturn:
        """Say why a process does not come up: of the front proxy, that another program has its port."""
        if name == "envoy":
            child, gateway = self._children.get(name), self._settings.gateway
            if child is not None:
                await child.stop(1.0)  # it might have the port itself by now
            check_free(gateway.host, gateway.port)
        raise StartError(f"{name} does not start; {see}", service=name)

    async def _serves(self, name: str) -> bool:
        if name == "envoy":
            return await process.is_live(self._home.path)
        endpoint, service = self._settings.services[name], self._processes[name]
        return await is_serving(endpoint.address, service, self._settings.trust_domain, self._certificates.own)

    async def _stop_children(self) -> None:
        """The front door first, security last."""
        grace_s = self._settings.drain_s + 5.0
        if not self._settings.gateway.managed:
            await process.drain(self._home.path)
            await self._quit_envoy()
        for name in ("envoy", *reversed(self._processes)):
            child = self._children.get(name)
            if child is None or not child.started:
                continue
            before = (lambda: process.drain(self._home.path)) if name == "envoy" else None
            await child.stop(3.0 if name == "envoy" else grace_s, before)
            self._say(f"{name} stopped")

    def _certificates_chore(self) -> Coroutine[Any, Any, None]:
        return repeat("certificates", self._settings.security.svid_ttl_s / 2, self._renew_certificates, self._warn)

    async def _quit_envoy(self) -> None:
        """End a front proxy that is not ours, so that it is started again with what is written next."""
        (self._home.path / "gateway" / "envoy.json").unlink(missing_ok=True)
        await process.quit_(self._home.path)

    def _chores(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What is to be done as long as the platform is ready."""
        yield repeat("access token", _TOKEN_S / 3, self._new_token, self._warn)
        yield repeat("logs", 60.0, self._trim_logs, self._warn)

    async def _renew_certificates(self) -> None:
        await asyncio.to_thread(self._certificates.renew)

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
        for log in (self._home.path / "logs").glob("*.log"):
            if log.stat().st_size > _MAX_LOG_BYTES:
                with suppress(OSError):  # a full disk is no reason to keep what fills it
                    await asyncio.to_thread(shutil.copyfile, log, log.with_suffix(".log.1"))
                os.truncate(log, 0)

    def _note_end(self, name: str, how: str) -> None:
        if self._ready:
            note_end(self._home.path, name, how, datetime.now(UTC))

    def _write_gateway_file(self) -> None:
        if self._ready:
            write_private(self._home.gateway_file, json.dumps(self._gateway(), indent=1))

    def _write_targets(self) -> None:
        """Say where the figures are, as Prometheus' `file_sd_configs` reads it; in a folder with nothing else in it.

        A process that is started again has the port that it had.
        """
        targets = [
            {
                "targets": [f"127.0.0.1:{endpoint.metrics_port}"],
                "labels": {"service": self._processes[name], "process": name},
            }
            for name, endpoint in self._settings.services.items()
        ]
        folder = self._home.path / "metrics"
        folder.mkdir(mode=0o700, exist_ok=True)
        write_private(folder / "prometheus-targets.json", json.dumps(targets, indent=1))

    def _gateway(self) -> dict[str, Any]:
        services: dict[str, Any] = {
            name: {
                "address": endpoint.address,
                "metrics": f"http://127.0.0.1:{endpoint.metrics_port}/metrics",
                "pid": self._children[name].pid,
            }
            for name, endpoint in self._settings.services.items()
        }
        envoy = self._children.get("envoy")
        services["envoy"] = {"pid": envoy.pid if envoy is not None else 0}
        gateway = self._settings.gateway
        host = "127.0.0.1" if gateway.host == "0.0.0.0" else gateway.host  # noqa: S104 -- compared, not bound
        return {
            "url": f"https://{host}:{gateway.port}",
            "ca": str(self._home.ca),
            "token_file": str(self._home.token_file),
            "services": services,
        }

    def _with_addresses(self, settings: Settings) -> Settings:
        ports = choose_ports(2 * len(self._processes))
        services = {
            name: Endpoint(address=f"127.0.0.1:{ports[2 * at]}", metrics_port=ports[2 * at + 1])
            for at, name in enumerate(self._processes)
        }
        return msgspec.structs.replace(settings, services=services)
