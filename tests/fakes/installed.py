"""A platform started with the `tiation` command in processes of its own, front proxy and all."""

from __future__ import annotations

import json
import os
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil

from tests.fakes.ports import free_ports

__all__ = ["EXAMPLE", "Installed", "installed"]

CLONE = Path(__file__).parents[2]
EXAMPLE = CLONE / "examples" / "support-triage"
TIATION = Path(sys.executable).with_name("tiation")


@dataclass
class Installed:
    """A running platform and ways to reach it."""

    home: Path
    ready_s: float = 0.0
    said: str = ""

    def command(self, *arguments: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a `tiation` command against the platform's home."""
        finished = subprocess.run(
            [str(TIATION), *arguments, "--home", str(self.home)],
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and finished.returncode:
            raise AssertionError(
                f"tiation {' '.join(arguments)}: {finished.returncode}\n{finished.stdout}{finished.stderr}"
            )
        return finished

    def json(self, *arguments: str) -> Any:
        """What a command prints with `--output json`."""
        return json.loads(self.command(*arguments, "--output", "json").stdout)

    @property
    def gateway(self) -> dict[str, Any]:
        """What `gateway.json` says now."""
        return json.loads((self.home / "gateway.json").read_text())

    @property
    def address(self) -> str:
        """The gateway's host and port."""
        return str(self.gateway["url"]).removeprefix("https://")

    def token(self, *, tenant: str = "default", role: str = "") -> str:
        """A fresh access token."""
        limited = ["--role", role] if role else []
        return self.command("token", "--tenant", tenant, *limited).stdout.strip()

    def channel(self, token: str | None = None) -> grpc.Channel:
        """A gRPC channel to the gateway, with a token unless it is empty."""
        root = grpc.ssl_channel_credentials((self.home / "ca.pem").read_bytes())
        if token == "":
            return grpc.secure_channel(self.address, root)
        held = token or Path(self.gateway["token_file"]).read_text().strip()
        call = grpc.access_token_call_credentials(held)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.secure_channel(self.address, grpc.composite_channel_credentials(root, call), options=options)

    def rest(self, token: str | None = None) -> httpx.Client:
        """A REST client of the gateway, with a token unless it is empty."""
        held = token if token is not None else Path(self.gateway["token_file"]).read_text().strip()
        headers = {"authorization": f"Bearer {held}"} if held else {}
        context = ssl.create_default_context(cafile=str(self.home / "ca.pem"))
        return httpx.Client(base_url=self.gateway["url"], headers=headers, verify=context, timeout=30.0)

    def pid(self, service: str) -> int:
        """The process of a service, as it is now."""
        return int(self.gateway["services"][service]["pid"])

    def kill(self, service: str) -> int:
        """SIGKILL a service; returns the process that died, once it answers nobody any more."""
        while not (pid := self.pid(service)):  # it is just being started again
            time.sleep(0.01)
        process = psutil.Process(pid)
        process.kill()
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.001)
        return pid

    def wait_serving(self, timeout_s: float = 30.0) -> None:
        """Wait until every service serves again."""
        self.command("status", "--wait", str(int(timeout_s)), timeout_s=timeout_s + 10)

    def metrics(self, service: str) -> str:
        """What a service shows to Prometheus."""
        return httpx.get(self.gateway["services"][service]["metrics"]).text

    @property
    def crm(self) -> Path:
        """The database that stands for the CRM."""
        return self.home / "integration" / "data" / "crm.db"

    def deploy_example(self) -> None:
        """Deploy the support agent and what it needs."""
        self.crm.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(self.crm)
        database.executescript((EXAMPLE / "crm.sql").read_text())
        database.close()
        self.command("models", "push", str(EXAMPLE / "support-intents"))
        self.command("decisions", "push", str(EXAMPLE / "support-routing.json"))
        self.command("connections", "apply", str(EXAMPLE / "crm.yaml"))
        self.command("agents", "apply", str(EXAMPLE / "agent.yaml"))

    def tickets(self) -> list[str]:
        """The ids in the CRM, in the order in which they came."""
        database = sqlite3.connect(self.crm)
        try:
            return [row[0] for row in database.execute("SELECT id FROM tickets ORDER BY rowid")]
        finally:
            database.close()


@contextmanager
def installed(home: Path, **variables: str) -> Iterator[Installed]:
    """Start a platform with these variables set; stop it at the end, whatever happened."""
    made = Installed(home)
    environment = {**os.environ, **variables}
    port = free_ports(1)[0]
    started = time.monotonic()
    finished = subprocess.run(
        [str(TIATION), "up", "--detach", "--home", str(home), "--port", str(port)],
        capture_output=True, text=True, timeout=90, check=False, env=environment, cwd=home.parent,
    )  # fmt: skip
    try:
        assert finished.returncode == 0, finished.stdout + finished.stderr
        made.ready_s = time.monotonic() - started
        made.said = finished.stdout
        yield made
    finally:
        subprocess.run([str(TIATION), "down", "--home", str(home)], capture_output=True, timeout=60, check=False)
