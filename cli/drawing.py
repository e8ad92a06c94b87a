"""A run as it is drawn in a terminal: a line a step, inside the steps that hold it, with what it does and how long.

It knows nothing of the flow but what the events say: a step that holds others appears with the first of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from tiation.orchestrator.v1 import run_pb2

from mesh.json_value import value_to_json

__all__ = ["Drawing", "names_in"]

_RUNNING, _WAITING, _ASKING, _DONE, _FAILED, _STOPPED = "running", "waiting", "asking", "done", "failed", "stopped"
_SIGNS = {_WAITING: "◷", _ASKING: "?", _DONE: "✓", _FAILED: "✗", _STOPPED: "-"}
_STYLES = {_WAITING: "yellow", _ASKING: "bold yellow", _DONE: "green", _FAILED: "red", _STOPPED: "dim"}
_AROUND = frozenset({"catch", "fork"})
"""What a list of steps may stand in: `/catch/do/0/name`, `/fork/branches/0/name`."""
_Type = run_pb2.RunEvent.Type


@dataclass(slots=True)
class _Line:
    """One step."""

    name: str
    depth: int
    state: str = _RUNNING
    times: int = 1
    began: float = 0.0
    first_ns: int = 0
    waited: bool = False
    took_s: float | None = None
    said: str = ""
    below: list[_Line] = field(default_factory=list)


class Drawing:
    """The lines of a run.

    Args:
        name: the run's name.
        clock: monotonic, seconds.
    """

    def __init__(self, name: str, clock: Any = time.monotonic) -> None:  # noqa: ANN401 -- a function of no arguments
        self._name = name
        self._clock = clock
        self._state = "queued"
        self._end = ""
        self._lines: dict[str, _Line] = {}
        self._top: list[_Line] = []
        self._spinner = Spinner("dots")

    def add(self, event: run_pb2.RunEvent) -> None:
        """Take an event in."""
        if event.step:
            self._step(event)
            return
        match event.type:
            case _Type.RUN_STARTED:
                self._state = "running"
            case _Type.RUN_WAITING:
                self._state = "waiting"
            case _Type.RUN_SUCCEEDED:
                self._state, self._end = "succeeded", _shown(event)
            case _Type.RUN_FAILED:
                self._state, self._end = "failed", _shown(event)
            case _Type.RUN_CANCELLED:
                self._state = "cancelled"

    def stop(self) -> None:
        """The run has ended: what has not is no longer wanted."""
        for line in self._lines.values():
            if line.state in (_RUNNING, _WAITING, _ASKING):
                line.state = _STOPPED

    def _step(self, event: run_pb2.RunEvent) -> None:
        pointer, _, mark = event.step.partition("#")
        if mark and event.type != _Type.STEP_WAITING:
            return
        line = self._line(pointer, event)
        line.times = max(line.times, event.occurrence if not mark else 1)
        match event.type:
            case _Type.STEP_STARTED:
                line.state, line.began, line.took_s, line.said = _RUNNING, self._clock(), None, ""
                line.first_ns, line.waited = event.event_time.ToNanoseconds(), False
            case _Type.STEP_WAITING:
                line.state, line.waited = _WAITING, True
                line.said = ("again at " if mark else "until ") + _moment(event)
            case _Type.INPUT_REQUESTED:
                line.state, line.said, line.waited = _ASKING, _asked(event), True
            case _Type.INPUT_RECEIVED:
                line.state, line.said = _RUNNING, ""
            case _Type.STEP_SUCCEEDED | _Type.STEP_FAILED:
                failed = event.type == _Type.STEP_FAILED
                line.state = _FAILED if failed else _DONE
                line.said = event.error.title if failed else ""
                line.took_s = self._took(line, event)

    def _took(self, line: _Line, event: run_pb2.RunEvent) -> float:
        """Over waits and steps inside, from begin to end by the journal; else what the step says itself."""
        journalled_ns = event.event_time.ToNanoseconds() - line.first_ns
        if (line.waited or line.below) and journalled_ns > 0:
            return journalled_ns / 1e9
        return event.duration_ms / 1000 if event.duration_ms and not line.below else self._since(line)

    def _since(self, line: _Line) -> float:
        return float(self._clock() - line.began)

    def _line(self, pointer: str, event: run_pb2.RunEvent) -> _Line:
        """The line of a step; those of the steps around it go on with it."""
        above: _Line | None = None
        for depth, (path, name) in enumerate(names_in(pointer)):
            line = self._lines.get(path)
            if line is None:
                line = self._lines[path] = _Line(
                    name, depth, began=self._clock(), first_ns=event.event_time.ToNanoseconds()
                )
                (above.below if above is not None else self._top).append(line)
            elif path != pointer and event.type == _Type.STEP_STARTED and line.state != _RUNNING:
                line.state, line.said, line.took_s = _RUNNING, "", None
            above = line
        assert above is not None  # noqa: S101 -- a step has a name
        return above

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """All of it, as it stands."""
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")  # the one that gives way where the terminal is narrow
        for line in _flat(self._top):
            table.add_row(self._head(line), self._time(line), Text(line.said, style="dim"))
        yield Text(f"{self._name}  {self._state}", style="bold")
        yield table
        if self._end:
            yield Text(self._end)

    def _head(self, line: _Line) -> Table | Text:
        name = line.name + (f" x{line.times}" if line.times > 1 else "")
        if line.state != _RUNNING:
            return Text.assemble("  " * line.depth, (f"{_SIGNS[line.state]} ", _STYLES[line.state]), name)
        frame: Any = self._spinner.render(self._clock())
        return Text.assemble("  " * line.depth, (f"{frame} ", "cyan"), name)

    def _time(self, line: _Line) -> Text:
        if line.state == _STOPPED:
            return Text("")
        seconds = line.took_s if line.took_s is not None else self._since(line)
        shown = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
        return Text(shown, style="dim")


def names_in(pointer: str) -> Iterator[tuple[str, str]]:
    """Each step on the way to a step, the last one itself: its pointer and its name."""
    parts = pointer.split("/")
    at = 1
    while at + 2 < len(parts):
        if parts[at] in _AROUND:
            at += 1  # the list follows
        yield "/".join(parts[: at + 3]), parts[at + 2].replace("~1", "/").replace("~0", "~")
        at += 3


def _flat(lines: list[_Line]) -> Iterator[_Line]:
    for line in lines:
        yield line
        yield from _flat(line.below)


def _moment(event: run_pb2.RunEvent) -> str:
    until = value_to_json(event.result, "result").get("until", "")
    return datetime.fromisoformat(until).astimezone().strftime("%Y-%m-%d %H:%M:%S") if until else ""


def _asked(event: run_pb2.RunEvent) -> str:
    asked = value_to_json(event.result, "result")
    return f"{asked['question']['title']}  tiation approvals answer {asked['approval'].rsplit('/', 1)[-1]} --approve"


def _shown(event: run_pb2.RunEvent) -> str:
    """What a run ended with."""
    if event.HasField("error"):
        return f"{event.error.title}: {event.error.detail}"
    return json.dumps(value_to_json(event.result, "result"), ensure_ascii=False, indent=2)
