"""`up`, `down`, `status`, `logs`, `serve`: the platform as a whole."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from cli.holding import UP
from cli.home import Home, NotRunningError
from cli.lean import draw_nothing
from cli.options import home_option, output_option
from mesh.config import SERVICES
from mesh.errors import Code, TiationError

__all__ = ["down", "logs", "serve", "status", "up"]

_REPLICA = re.compile(r"-[1-9][0-9]?$")
_SAYING_S = 5.0
"""Whoever has taken the home has said by then who it is; otherwise it runs elsewhere, in a container for instance."""
_STOPPING_S = 60.0


def _service_of(process: str) -> str:
    """The service of a process: `orchestrator-2` is the orchestrator's second."""
    return _REPLICA.sub("", process)


class _LogName(click.Choice[str]):
    """Whose log: a service's, with a number behind for another of its processes, or the front proxy's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 -- click's
        """A name that there may be a log of."""
        text = str(value)
        number = _REPLICA.search(text)
        return super().convert(_service_of(text), param, ctx) + (number.group() if number else "")


class AddressMissingError(TiationError):
    """The settings do not say where services listen."""

    code = Code.FAILED_PRECONDITION
    reason = "SERVICE_ADDRESS_MISSING"


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the front door.  [default: 8443]")
@click.option("--detach", is_flag=True, help="Return when the platform is ready and leave it running.")
@click.option("--behind", is_flag=True, hidden=True)  # the process that `--detach` leaves running
@home_option
@output_option
def up(home: Home, port: int | None, *, detach: bool, behind: bool, output: str) -> None:
    """Start the platform and stay; Ctrl-C drains and stops it.

    An empty home is initialised.

    \b
    Example:
      tiation up --home /var/lib/tiation --port 9443
    """  # noqa: D301 -- \b is click's
    # gRPC would say on the terminal, at every start of a process, that it does not prepare for forks
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        draw_nothing()
        from cli.supervisor.start import start, start_detached

        if detach:
            start_detached(home, port, output)
        else:
            start(home, port, output, behind=behind)
    except KeyboardInterrupt:  # before the supervisor listens for it, that is: before anything was started
        click.echo("Nothing was left running", err=True)
        raise


@click.command()
@home_option
@output_option
def down(home: Home, output: str) -> None:
    """Stop the platform: calls under way finish first.

    \b
    Example:
      tiation down
    """  # noqa: D301 -- \b is click's
    holder = home.holder()
    patience = time.monotonic() + _SAYING_S
    while holder is not None and not holder.pid and time.monotonic() < patience:  # it has just taken the home
        time.sleep(0.02)
        holder = home.holder()
    if holder is None:
        _tell(output, stopped=False, text=f"no platform runs on {home.path}")
        return
    if holder.purpose != UP:
        raise home.in_use(holder)
    with suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOPPING_S
    while (now := home.holder()) is not None and now.pid in (0, holder.pid):
        if time.monotonic() > deadline:
            raise click.ClickException(f"process {holder.pid} does not stop; see {home.log('supervisor')}")
        time.sleep(0.05)
    _tell(output, stopped=True, text="stopped")


def _tell(output: str, *, stopped: bool, text: str) -> None:
    click.echo(json.dumps({"stopped": stopped}) if output == "json" else text)


@click.command()
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="Wait up to so long for all to serve.")
@home_option
@output_option
def status(home: Home, wait: float, output: str) -> None:
    """Show whether every process serves; exits 0 when all do.

    \b
    Example:
      tiation status --wait 30
    """  # noqa: D301 -- \b is click's
    from cli.supervisor.ends import as_json, ended_lately, told
    from cli.supervisor.health import is_serving
    from mesh.config import load_settings

    deadline = time.monotonic() + wait
    trust_domain = load_settings(home.path).trust_domain if home.path.exists() else ""

    async def look() -> dict[str, dict[str, Any]]:
        gateway = home.gateway()
        svid = json.loads((home.path / "supervisor" / "svid.json").read_text())
        services = gateway["services"]
        ours = {name: service for name in services if (service := _service_of(name)) in SERVICES}
        serving = await asyncio.gather(
            *(is_serving(services[name]["address"], service, trust_domain, svid) for name, service in ours.items())
        )
        from cli.gateway.process import is_live

        states = dict(zip(ours, serving, strict=True)) | {"envoy": await is_live(home.path)}
        return {name: {"state": "SERVING" if states[name] else "NOT_SERVING", **services[name]} for name in states}

    while True:
        try:
            found = asyncio.run(look())
        except NotRunningError:
            if time.monotonic() >= deadline:
                raise
            found = {}
        good = bool(found) and all(process["state"] == "SERVING" for process in found.values())
        if good or time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    ended = ended_lately(home.path)
    if output == "json":
        for name in found.keys() & ended.keys():
            found[name]["ended"] = as_json(ended[name])
        click.echo(json.dumps({"url": home.gateway()["url"], "services": found}, indent=2))
    else:
        from cli.output import print_table

        rows = [(name, p["state"], p["pid"], p.get("address", home.gateway()["url"])) for name, p in found.items()]
        print_table(("process", "state", "pid", "address"), rows)
        for ends in ended.values():
            click.echo(f"{told(ends)}; see `tiation doctor`")
    if not good:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("service", required=False, type=_LogName([*SERVICES, "envoy", "gateway", "supervisor"]))
@click.option("--follow", "-f", is_flag=True, help="Go on as more is written.")
@click.option(
    "--lines", "-n", type=click.IntRange(0), default=50, show_default=True, help="How many of each to begin with."
)
@home_option
@output_option
def logs(home: Home, service: str | None, *, follow: bool, lines: int, output: str) -> None:
    """Show the logs of one service, or of all. `gateway` is the front proxy's access log.

    \b
    Example:
      tiation logs engine --follow
    """  # noqa: D301 -- \b is click's
    paths = [home.log(service)] if service else sorted((home.path / "logs").glob("*.log"))
    if service == "supervisor" and not paths[0].exists() and home.gateway_file.exists():
        raise NotRunningError("a platform that was started without --detach says in its own terminal what it does")
    if not paths or not any(path.exists() for path in paths):
        raise NotRunningError(f"there are no logs under {home.path}; has the platform been started?")
    places: dict[Path, int] = {}
    for path in paths:
        if path.exists():
            with path.open(errors="replace") as file:
                for line in deque(file, lines) if lines else ():
                    _print_line(path, line, output, alone=len(paths) == 1)
                places[path] = file.tell()
    while follow:
        for path, place in places.items():
            size = path.stat().st_size
            with path.open(errors="replace") as file:
                file.seek(place if place <= size else 0)
                for line in file:
                    _print_line(path, line, output, alone=len(paths) == 1)
                places[path] = file.tell()
        time.sleep(0.2)


def _print_line(path: Path, line: str, output: str, *, alone: bool) -> None:
    text = line.rstrip("\n")
    if output == "json":
        entry = text if text.startswith("{") else json.dumps({"message": text, "service.name": path.stem})
        click.echo(entry)
    else:
        click.echo(text if alone else f"{path.stem:12} {text}")


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
@click.option(
    "--replica", type=click.IntRange(1), default=1, show_default=True, help="Which of the service's processes this is."
)
@home_option
@output_option
def serve(service: str, home: Home, replica: int, output: str) -> None:  # noqa: ARG001 -- every command takes --output
    """Run one service in this process; `up` does this for each.

    \b
    Example:
      tiation serve engine
    """  # noqa: D301 -- \b is click's
    from importlib import import_module

    draw_nothing()
    gc.disable()  # what is read in now stays, and to look for cycles in it takes a tenth of the start
    try:
        from mesh.config import load_settings
        from mesh.host import run

        build = import_module(f"{service}.app").build
    finally:
        gc.enable()
    home.check_whole()
    missing = [name for name in SERVICES if name not in load_settings(home.path).services]
    if missing:
        raise AddressMissingError(
            f"nothing says where {', '.join(missing)} should listen. `tiation up --home {home.path}` starts every "
            f"service and sees to that; to run one alone, set services.{missing[0]}.address to a host:port, and the "
            f"others' too, in {home.path / 'tiation.yaml'}"
        )
    run(service, build, home.path, replica)
