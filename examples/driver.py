"""What every example's demo stands on: one started platform, its command, and ways to reach it.

What an example deploys and shows is in its own `demo.py`; which of them `make demo` runs is in `examples/demo.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.protobuf import json_format
from rich.console import Console
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc

CLONE = Path(__file__).parent.parent
TIATION = Path(sys.executable).with_name("tiation")


@dataclass(frozen=True, slots=True)
class DemoPlatform:
    """A running platform.

    Attributes:
        home: its state folder.
        console: where examples print.
    """

    home: Path
    console: Console

    def command(self, *arguments: str) -> None:
        """Run a `tiation` command; its output is shown when it fails."""
        finished = subprocess.run(
            [str(TIATION), *arguments, "--home", str(self.home)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if finished.returncode:
            sys.exit(f"tiation {' '.join(arguments)} failed:\n{finished.stdout}")

    def deploy(self, things: dict[str, tuple[str, ...]]) -> None:
        """Run a command for each thing, and say which was deployed."""
        for what, arguments in things.items():
            self.command(*arguments)
            self.console.print(f"Deployed {what}.")

    def database(self, file: str, schema: str) -> Path:
        """Make a SQLite database where connections may reach it."""
        path = self.home / "integration" / "data" / file
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(path)
        database.executescript(schema)
        database.close()
        return path

    def channel(self) -> grpc.Channel:
        """A gRPC channel to the gateway, as a client with the generated stubs opens it."""
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(Path(self._gateway["ca"]).read_bytes()),
            grpc.access_token_call_credentials(self._token),
        )
        return grpc.secure_channel(str(self._gateway["url"]).removeprefix("https://"), credentials)

    def rest(self) -> httpx.Client:
        """A REST client of the gateway."""
        context = ssl.create_default_context(cafile=str(self._gateway["ca"]))
        headers = {"authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=str(self._gateway["url"]), headers=headers, verify=context, timeout=30.0)

    @property
    def _gateway(self) -> dict[str, Any]:
        return json.loads((self.home / "gateway.json").read_text())

    @property
    def _token(self) -> str:
        return Path(self._gateway["token_file"]).read_text().strip()


def run_to_end(runs: run_pb2_grpc.RunServiceStub, agent: str, given: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Start a run and follow it to its end: its output, and milliseconds from request to answer."""
    run = run_pb2.Run()
    json_format.ParseDict(given, run.input)
    started = time.perf_counter()
    created = runs.CreateRun(run_pb2.CreateRunRequest(parent=agent, run=run), timeout=30)
    return follow_to_end(runs, created.name), (time.perf_counter() - started) * 1000


def follow_to_end(runs: run_pb2_grpc.RunServiceStub, name: str) -> dict[str, Any]:
    """Follow a run to its end; its output."""
    for answer in runs.StreamRunEvents(run_pb2.StreamRunEventsRequest(name=name), timeout=60):
        event = answer.event
        if event.type == run_pb2.RunEvent.RUN_SUCCEEDED:
            output: dict[str, Any] = json_format.MessageToDict(event.result)
            return output
        if event.type in (run_pb2.RunEvent.RUN_FAILED, run_pb2.RunEvent.RUN_CANCELLED):
            sys.exit(f"{name} ended badly: {event.error.title}: {event.error.detail}")
    sys.exit(f"{name}: the stream ended before the run did")


def main(description: str | None, *examples: Callable[[DemoPlatform], bool]) -> int:
    """Run examples on one platform, one after the other; the exit code is 0 when every one of them came out well."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=CLONE / ".tiation-demo", help="state folder, emptied first")
    parser.add_argument("--port", type=int, default=0, help="port of the gateway; 0 picks a free one")
    options = parser.parse_args()
    with started(options.home.resolve(), options.port or free_port()) as platform:
        outcomes = [example(platform) for example in examples]
    return 0 if all(outcomes) else 1


@contextmanager
def started(home: Path, port: int) -> Iterator[DemoPlatform]:
    """A platform on a fresh home; stopped in the end."""
    console = Console()
    at_home = ("--home", str(home))
    if (home / "gateway.json").exists():
        subprocess.run([TIATION, "down", *at_home], capture_output=True, check=False)
    shutil.rmtree(home, ignore_errors=True)
    began = time.monotonic()
    if subprocess.run([TIATION, "up", "--detach", "--port", str(port), *at_home], check=False).returncode:
        sys.exit("the platform did not start; its last words stand above")
    console.print(f"Platform ready after {time.monotonic() - began:.1f} s.")
    try:
        yield DemoPlatform(home, console)
    finally:
        subprocess.run([TIATION, "down", *at_home], check=False)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
