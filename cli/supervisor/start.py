"""Starting a platform: in this process, or in one that stays behind; and what its user is told."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from cli import FAILURE, FAILURE_JSON
from cli.home import Home
from mesh.config import Settings, load_settings

__all__ = ["start", "start_detached"]

CLONE = Path(__file__).parents[2]


def start(home: Home, port: int | None, output: str) -> None:
    """Start, print the ways in, and stay until stopped."""
    from cli.supervisor.supervisor import STOPPING, Supervisor  # `start_detached` can do without all that this brings

    began = time.monotonic()
    home.make()
    settings = _settings(home, port)
    holding = home.hold()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # until the supervisor listens
    try:
        if output == "table":
            click.echo(f"Starting the platform on {home.path}")

        def ready(gateway: dict[str, Any]) -> None:
            if output == "json":
                click.echo(json.dumps(gateway))
            else:
                click.echo(
                    f"Ready at {gateway['url']} after {time.monotonic() - began:.1f} s.\n{ways_in(home, gateway)}"
                )

        def say(text: str) -> None:
            if output == "table":
                click.echo(text)

        asyncio.run(Supervisor(home, settings, say).run(ready))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.close(holding)


def start_detached(home: Home, port: int | None, output: str) -> None:
    """Start in a process that stays behind; return when it is ready."""
    home.make()
    _settings(home, port)
    os.close(home.hold())
    log = home.log("supervisor")
    arguments = ["up", "--home", str(home.path), "--output", output, *(["--port", str(port)] if port else [])]
    home.gateway_file.unlink(missing_ok=True)
    with log.open("ab") as file:
        read = file.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _await_ready(home, child, log, read)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def _await_ready(home: Home, child: subprocess.Popen[bytes], log: Path, read: int) -> None:
    """Show what the process behind says until the platform is ready, or is not going to be.

    Args:
        home: of the platform.
        child: the process behind.
        log: what it writes.
        read: bytes of that which are none of this start's.
    """
    failed = False
    while True:
        ended = child.poll()
        ready = home.gateway_file.exists()
        time.sleep(0.05)
        with log.open("rb") as file:
            file.seek(read)
            text = file.read()
        if ended is None and not ready:
            text = text[: text.rfind(b"\n") + 1]
        for line in text.decode(errors="replace").splitlines():
            failed = failed or line.startswith((FAILURE, FAILURE_JSON))  # which begins the end of what it says
            click.echo(line, err=failed)
        read += len(text)
        if ended is not None:
            raise click.exceptions.Exit(ended or 1)
        if ready:
            return


def _settings(home: Home, port: int | None) -> Settings:
    settings = load_settings(home.path)
    if port is not None:
        settings = msgspec.structs.replace(settings, gateway=msgspec.structs.replace(settings.gateway, port=port))
    return settings


def _grpcurl() -> str:
    """What `make setup-test` built, or whatever the user has by that name."""
    built = CLONE / ".cache" / "bin" / "grpcurl"
    return shlex.quote(str(built)) if built.exists() else "grpcurl"


def ways_in(home: Home, gateway: dict[str, Any]) -> str:
    """Three ways to call the platform, ready to paste."""
    url, address = gateway["url"], str(gateway["url"]).removeprefix("https://")
    command = shlex.join([str(Path(sys.executable).with_name("tiation")), "token", "--home", str(home.path)])
    trusted = f'--cacert {shlex.quote(str(home.ca))} -H "Authorization: Bearer $({command})"'
    python = f"""\
{shlex.quote(sys.executable)} - <<'END'
import grpc
from pathlib import Path
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc
credentials = grpc.composite_channel_credentials(
    grpc.ssl_channel_credentials(Path({str(home.ca)!r}).read_bytes()),
    grpc.access_token_call_credentials(Path({str(home.token_file)!r}).read_text().strip()))
agents = agent_pb2_grpc.AgentServiceStub(grpc.secure_channel("{address}", credentials))
print(agents.ListAgents(agent_pb2.ListAgentsRequest(parent="tenants/default")))
END"""
    curl = f"curl {trusted} \\\n  {url}/v1/tenants/default/agents"
    grpcurl = (
        f"{_grpcurl()} {trusted.replace('--cacert', '-cacert', 1)} \\\n"
        f'  -d \'{{"parent": "tenants/default"}}\' {address} tiation.orchestrator.v1.AgentService/ListAgents'
    )
    ways = f"# Python\n{python}\n\n# REST\n{curl}\n\n# gRPC; `make setup-test` brings grpcurl\n{grpcurl}"
    return f"\nThree ways in:\n\n{ways}\n\nStop with Ctrl-C, or `tiation down`."
