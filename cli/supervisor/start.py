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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from cli.assets import CLONE, is_clone
from cli.home import Home
from cli.supervisor.log import LogStream, read_line
from mesh.config import Settings, load_settings

__all__ = ["start", "start_detached"]

_STARTING, _READY = "Starting the platform on", "Ready at"
"""What the first line begins with, and the one once the platform is ready."""


def start(home: Home, port: int | None, output: str, *, behind: bool = False) -> None:
    """Start, print the ways in, and stay until stopped.

    Args:
        home: of the platform.
        port: of its front door; None for what the settings say.
        output: `table` or `json`.
        behind: whether this is the process of `start_detached`: what it prints is the supervisor's log.
    """
    from cli.supervisor.supervisor import STOPPING, Supervisor  # `start_detached` can do without all that this brings

    began = time.monotonic()
    say, warn = _voices(output, behind=behind)
    home.make()
    settings = _settings(home, port)
    holding = home.hold()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # until the supervisor listens
    try:
        say(f"{_STARTING} {home.path}")
        if not is_clone() and not settings.engine.system_models:
            warn("without models that ship, which pip does not bring; `tiation doctor` says where they are")

        def ready(gateway: dict[str, Any]) -> None:
            say(f"{_READY} {gateway['url']} after {time.monotonic() - began:.1f} s.")
            if not behind:
                _say_ready(home, gateway, output)

        asyncio.run(Supervisor(home, settings, say, warn).run(ready))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.close(holding)


def _voices(output: str, *, behind: bool) -> tuple[Callable[[str], None], Callable[[str], None]]:
    """What tells the user how it goes, and what tells of trouble."""
    if behind:
        file = sys.stdout
        sys.stderr = LogStream(file, "error")
        return LogStream(file, "info").say, LogStream(file, "warning").say
    if output == "json":
        return (lambda _: None,) * 2
    return (_say_line,) * 2


def _say_line(text: str) -> None:
    """Print a line; what is said of one process stands below what is said of the platform."""
    click.echo(text if text.startswith((_STARTING, _READY)) else f"  {text}")


def _say_ready(home: Home, gateway: dict[str, Any], output: str) -> None:
    click.echo(json.dumps(gateway) if output == "json" else ways_in(home, gateway))


def start_detached(home: Home, port: int | None, output: str) -> None:
    """Start in a process that stays behind; return when it is ready."""
    home.make()
    _settings(home, port)
    os.close(home.hold())
    log = home.log("supervisor")
    at = ["--port", str(port)] if port else []
    arguments = ["up", "--behind", "--home", str(home.path), "--output", output, *at]
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
        _await_ready(home, child, log, read, output)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def _await_ready(home: Home, child: subprocess.Popen[bytes], log: Path, read: int, output: str) -> None:
    """Show what the process behind says until the platform is ready, or is not going to be.

    Args:
        home: of the platform.
        child: the process behind.
        log: what it writes.
        read: bytes of that which are none of this start's.
        output: `table` or `json`.
    """
    while True:
        ended = child.poll()
        time.sleep(0.05)
        with log.open("rb") as file:
            file.seek(read)
            text = file.read()
        if ended is None:
            text = text[: text.rfind(b"\n") + 1]
        ready = False
        for level, said in map(read_line, text.decode(errors="replace").splitlines()):
            ready = ready or said.startswith(_READY)
            if level == "error":
                click.echo(said, err=True)
            elif output == "table":
                _say_line(said)
        read += len(text)
        if ended is not None:
            raise click.exceptions.Exit(ended or 1)
        if ready:
            _say_ready(home, home.gateway(), output)
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
