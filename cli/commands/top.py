"""`top`: what happens right now, drawn again and again."""

from __future__ import annotations

import json
import os
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import click
import grpc
from rich.console import Console
from rich.live import Live
from tiation.analytics.v1 import metric_pb2 as pb
from tiation.analytics.v1 import metric_pb2_grpc

from cli.client import BREAKS, TIMEOUT_S, connect, explain, refusal_of
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.top import GROUPINGS, WINDOWS, View, as_document, frame
from mesh.errors import TiationError

__all__ = ["top"]

_AGAIN_S = 1.0
_GONE = "\x04"
"""What is read when the terminal has been closed, and what Ctrl-D sends: nobody looks any more."""
_PIPED_WIDTH = 160
_PASSING = BREAKS | {grpc.StatusCode.UNAUTHENTICATED}
"""How a stream may break that had begun: the next one takes its place."""


@click.command()
@click.option(
    "--by",
    type=click.Choice(list(GROUPINGS.values())),
    default="agent",
    show_default=True,
    help="What to keep apart; keys change it.",
)
@click.option(
    "--window", type=click.Choice(list(WINDOWS)), default="1m", show_default=True, help="How far to look back."
)
@click.option("--filter", "wanted", default="", metavar="FILTER", help='Only calls of which this holds: agent = "x".')
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many rows.")
@click.option("--once", is_flag=True, help="Print one frame and return; so it does too where no terminal is.")
@tenant_option
@home_option
@output_option
def top(home: Home, tenant: str, by: str, window: str, wanted: str, limit: int, *, once: bool, output: str) -> None:
    """Show calls, errors, latency, tokens, cost and runs as they happen.

    With --output json it prints one object a line, as often as something changes.

    \b
    Example:
      tiation top --by model --window 5m
    """  # noqa: D301 -- \b is click's
    view = View(tenant, by, window, wanted, limit)
    if output == "json":
        _print_json(home, view, once=once)
    elif once or not sys.stdout.isatty():
        Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(frame(view, _first(home, view), keys=False))
    else:
        _watch(home, view)


def _first(home: Home, view: View) -> pb.StreamMetricsResponse:
    with connect(home, metric_pb2_grpc.AnalyticsServiceStub, view.tenant) as stub:
        answer: pb.StreamMetricsResponse = next(iter(stub.StreamMetrics(view.request(), timeout=TIMEOUT_S)))
    return answer


def _print_json(home: Home, view: View, *, once: bool) -> None:
    if once:
        click.echo(json.dumps(as_document(view, _first(home, view)), indent=2))
        return
    for snapshot, said in _snapshots(home, view, threading.Event()):
        if snapshot is not None:
            click.echo(json.dumps(as_document(view, snapshot)))
        elif said:
            click.echo(said, err=True)


def _snapshots(
    home: Home, view: View, stop: threading.Event, calls: list[Any] | None = None
) -> Iterator[tuple[pb.StreamMetricsResponse | None, str]]:
    """Snapshots for as long as anybody wants them; where the stream breaks, why, and then what comes after.

    Raises:
        grpc.RpcError: the view cannot be had at all.
    """
    seen = 0
    while not stop.is_set():
        try:
            with connect(home, metric_pb2_grpc.AnalyticsServiceStub, view.tenant) as stub:
                call = stub.StreamMetrics(view.request(seen))
                if calls is not None:
                    calls.append(call)
                for answer in call:
                    if answer.HasField("error"):
                        yield None, answer.error.message
                        break
                    seen = answer.sequence
                    yield answer, ""
        except grpc.RpcError as error:
            failed: Any = error
            if stop.is_set():
                return
            if failed.code() not in _PASSING or not seen:
                raise
            refusal = refusal_of(error)
            yield None, explain(refusal) if refusal is not None else str(failed.code())
        except TiationError as error:  # the platform is being started again
            if not seen:
                raise
            yield None, error.message
        stop.wait(_AGAIN_S)


class _Feed:
    """Reads the snapshots of one view in a thread of its own, so that keys are heard meanwhile."""

    def __init__(self, home: Home, view: View) -> None:
        self.news: queue.SimpleQueue[tuple[pb.StreamMetricsResponse | None, str] | Exception] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._calls: list[Any] = []
        self._thread = threading.Thread(target=self._read, args=(home, view), daemon=True)
        self._thread.start()

    def _read(self, home: Home, view: View) -> None:
        try:
            for news in _snapshots(home, view, self._stop, self._calls):
                self.news.put(news)
        except Exception as error:  # noqa: BLE001 -- whoever draws raises it
            if not self._stop.is_set():
                self.news.put(error)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        for call in self._calls:
            call.cancel()
        self._thread.join(timeout=2.0)


def _watch(home: Home, view: View) -> None:
    """Draw until somebody wants no more."""
    feed, shown, said = _Feed(home, view), None, ""
    try:
        with _keys() as key, Live(frame(view, None), screen=True, auto_refresh=False) as live:
            while True:
                changed = False
                while not feed.news.empty():
                    news = feed.news.get()
                    if isinstance(news, Exception):
                        raise news
                    shown, said, changed = news[0] or shown, news[1], True
                pressed = key()
                if pressed in ("q", "\x03", _GONE):
                    return
                chosen = _chosen(view, pressed)
                if chosen != view:
                    feed.close()
                    view, shown, changed = chosen, None, True
                    feed = _Feed(home, view)
                if changed:
                    live.update(frame(view, shown, said), refresh=True)
    except KeyboardInterrupt:
        return
    finally:
        feed.close()


def _chosen(view: View, pressed: str) -> View:
    """The view that a key asks for."""
    if pressed == "w":
        names = list(WINDOWS)
        return replace(view, window=names[(names.index(view.window) + 1) % len(names)])
    return replace(view, by=GROUPINGS.get(pressed, view.by))


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that returns the key that was pressed within a moment, or nothing; keys are not echoed meanwhile."""
    if not sys.stdin.isatty():

        def wait() -> str:
            time.sleep(0.1)
            return ""

        yield wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> str:
        ready, _, _ = select.select([descriptor], [], [], 0.1)
        if not ready:
            return ""
        try:
            pressed = os.read(descriptor, 1)
        except OSError:
            pressed = b""
        return pressed.decode(errors="replace") or _GONE

    try:
        tty.setcbreak(descriptor)
        yield read
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
