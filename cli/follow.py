"""Following a run to its end: its events as they come, resumed where the stream breaks, shown as the reader wants them.

How they look in a terminal is `cli.drawing`'s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import click
import grpc
from tiation.orchestrator.v1 import run_pb2

from cli.client import BREAKS, TIMEOUT_S
from cli.drawing import Drawing
from cli.output import as_json, print_json
from mesh.json_value import value_to_json

__all__ = ["follow_to_end"]

_MOST_FAILURES = 30
_PAUSE_S = 0.5

_Show = Callable[[run_pb2.RunEvent], None]


def follow_to_end(stub: Any, made: run_pb2.Run, output: str) -> None:  # noqa: ANN401 -- see `connect`
    """Show a run's events until it has ended, and end the command with 1 unless it succeeded.

    In a terminal the steps are drawn as they go on. Elsewhere each event is a line: of text on standard output, or with
    JSON asked for an object on standard error, so that standard output is the run alone.

    Args:
        stub: of the run service.
        made: the run.
        output: `table` or `json`.
    """
    try:
        with _shown(made.name, output) as show:
            for event in _events(stub, made.name):
                show(event)
    except KeyboardInterrupt:
        click.echo(f"It goes on; `tiation runs follow {made.name}` shows it again.", err=True)
        raise
    ended: run_pb2.Run = stub.GetRun(run_pb2.GetRunRequest(name=made.name), timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(ended))
    if ended.state != run_pb2.Run.SUCCEEDED:
        raise click.exceptions.Exit(1)


def _shown(name: str, output: str) -> AbstractContextManager[_Show]:
    """What shows events."""
    if output == "json":
        return nullcontext(_print_json)
    if sys.stdout.isatty():
        return _drawn(name)
    return nullcontext(lambda event: click.echo(_line(event)))


@contextmanager
def _drawn(name: str) -> Iterator[_Show]:
    from rich.console import Console
    from rich.live import Live

    drawing = Drawing(name)
    console = Console(highlight=False)
    with Live(drawing, console=console, refresh_per_second=8, vertical_overflow="visible"):
        yield drawing.add
        drawing.stop()


def _print_json(event: run_pb2.RunEvent) -> None:
    click.echo(json.dumps({"event": as_json(event)}, ensure_ascii=False), err=True)


def _events(stub: Any, name: str) -> Iterator[run_pb2.RunEvent]:  # noqa: ANN401 -- see `connect`
    """Every event of a run until its end."""
    seen, failures = 0, 0
    while True:
        try:
            request = run_pb2.StreamRunEventsRequest(name=name, after_sequence=seen)
            for answer in stub.StreamRunEvents(request):
                if answer.HasField("event"):
                    seen, failures = answer.event.sequence, 0
                    yield answer.event
            found = stub.GetRun(run_pb2.GetRunRequest(name=name), timeout=TIMEOUT_S)
            if found.HasField("end_time"):
                return
        except grpc.RpcError as error:
            failures += 1
            failed: Any = error
            renewed = failed.code() is grpc.StatusCode.UNAUTHENTICATED and failures == 1  # with a fresh token
            if not renewed and (failed.code() not in BREAKS or failures > _MOST_FAILURES):
                raise
            time.sleep(_PAUSE_S if failures > 1 else 0)


def _line(event: run_pb2.RunEvent) -> str:
    parts = [f"{event.sequence:4}", run_pb2.RunEvent.Type.Name(event.type).lower().replace("_", " "), event.step]
    if event.HasField("error"):
        parts.append(f"{event.error.title}: {event.error.detail}")
    elif event.HasField("result"):
        parts.append(json.dumps(value_to_json(event.result, "result"), ensure_ascii=False)[:200])
    return "  ".join(part for part in parts if part)
