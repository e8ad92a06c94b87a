"""How a run is drawn: which lines there are, what they say while it goes on, and what is left in the end."""

from __future__ import annotations

import io

import pytest
from google.protobuf import json_format
from rich.console import Console
from tiation.orchestrator.v1 import run_pb2

from cli.drawing import Drawing, names_in

TYPES = run_pb2.RunEvent.Type


@pytest.mark.parametrize(
    ("pointer", "names"),
    [
        ("/do/0/a", ["a"]),
        ("/do/0/a/do/1/b", ["a", "b"]),
        ("/do/0/t/try/0/a", ["t", "a"]),
        ("/do/0/t/catch/do/0/a", ["t", "a"]),
        ("/do/2/f/fork/branches/1/b/do/0/c", ["f", "b", "c"]),
        ("/do/0/do/do/0/fork/fork/branches/0/0", ["do", "fork", "0"]),
        ("/do/0/a~1b~0c", ["a/b~c"]),
    ],
)
def test_the_steps_around_a_step_are_read_from_its_pointer(pointer, names):
    found = list(names_in(pointer))
    assert [name for _, name in found] == names
    assert found[-1][0] == pointer


class Watch:
    """A clock that a test turns."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def drawing(watch):
    return Drawing("tenants/default/agents/a/runs/r", watch)


def event(kind, step="", *, occurrence=1, result=None, error="", ms=0.0, at=0):
    made = run_pb2.RunEvent(type=TYPES.Value(kind), step=step, occurrence=occurrence, duration_ms=ms)
    if result is not None:
        json_format.ParseDict(result, made.result)
    if error:
        made.error.title = error
    if at:
        made.event_time.FromSeconds(at)
    return made


def shown(drawing):
    """The lines as a terminal shows them."""
    console = Console(file=io.StringIO(), width=150, highlight=False)
    console.print(drawing)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip()]


def test_steps_are_drawn_inside_those_that_hold_them(drawing):
    drawing.add(event("RUN_STARTED"))
    drawing.add(event("STEP_STARTED", "/do/0/both/fork/branches/0/a"))
    drawing.add(event("STEP_SUCCEEDED", "/do/0/both/fork/branches/1/b", ms=12))
    console = Console(file=io.StringIO(), width=100)
    console.print(drawing)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "tenants/default/agents/a/runs/r  running"
    assert lines[1].split()[1] == "both"
    assert lines[2].startswith("  ")
    assert lines[2].split()[1] == "a"
    assert lines[3].split() == ["✓", "b", "12", "ms"]


def test_what_runs_turns_and_what_ended_says_how_long_it_took(drawing, watch):
    drawing.add(event("STEP_STARTED", "/do/0/a"))
    watch.now = 2.5
    running = shown(drawing)[1]
    assert running.endswith("a 2.5 s")
    watch.now = 2.6
    assert shown(drawing)[1][0] != running[0]  # the spinner goes on
    drawing.add(event("STEP_SUCCEEDED", "/do/0/a", ms=2610))
    assert shown(drawing)[1] == "✓ a 2.6 s"


def test_what_waited_took_as_long_as_its_journal_says_whoever_joins_later(drawing):
    drawing.add(event("STEP_STARTED", "/do/0/f/fork/branches/0/w", at=100))
    drawing.add(
        event("STEP_WAITING", "/do/0/f/fork/branches/0/w", result={"until": "2026-01-01T12:00:00+00:00"}, at=100)
    )
    drawing.add(event("STEP_SUCCEEDED", "/do/0/f/fork/branches/0/w", ms=0.04, at=103))
    drawing.add(event("STEP_SUCCEEDED", "/do/0/f", ms=3000, at=104))
    assert shown(drawing)[1:] == ["✓ f 4.0 s", "✓ w 3.0 s"]


def test_a_step_that_was_come_to_again_is_one_line_that_counts(drawing):
    for number in range(1, 4):
        drawing.add(event("STEP_SUCCEEDED", "/do/0/loop/do/0/a", occurrence=number, ms=1))
    drawing.add(event("STEP_SUCCEEDED", "/do/0/loop"))
    assert [line.split()[:2] for line in shown(drawing)[1:]] == [["✓", "loop"], ["✓", "a"]]
    assert "a x3 1 ms" in shown(drawing)[2]


def test_what_waits_says_until_when_and_what_asks_says_how_to_answer(drawing):
    drawing.add(event("STEP_WAITING", "/do/0/w", result={"until": "2026-01-01T12:00:00+00:00"}))
    asked = {"approval": "tenants/default/approvals/1a2b", "question": {"title": "Pay?"}}
    drawing.add(event("INPUT_REQUESTED", "/do/1/ask", result=asked))
    drawing.add(event("RUN_WAITING"))
    state, waits, asks = shown(drawing)
    assert state.endswith("waiting")
    assert "◷ w" in waits
    assert "until 202" in waits
    assert "? ask" in asks
    assert "Pay? tiation approvals answer 1a2b --approve" in asks


def test_a_retry_is_told_at_its_try(drawing):
    drawing.add(event("STEP_FAILED", "/do/0/t/try/0/a", error="A call failed"))
    drawing.add(event("STEP_WAITING", "/do/0/t#retry", result={"until": "2026-01-01T12:00:00+00:00"}))
    lines = shown(drawing)
    assert "again at 202" in lines[1]
    assert lines[2].startswith("✗ a")
    assert lines[2].endswith("A call failed")
    drawing.add(event("STEP_STARTED", "/do/0/t/try/0/a", occurrence=2))
    assert "again at" not in shown(drawing)[1]


def test_in_the_end_nothing_turns_any_more(drawing):
    drawing.add(event("STEP_STARTED", "/do/0/race/fork/branches/0/loser"))
    drawing.add(event("STEP_SUCCEEDED", "/do/0/race"))
    drawing.add(event("RUN_SUCCEEDED", result={"x": "y"}))
    drawing.stop()
    assert shown(drawing)[0].endswith("succeeded")
    assert shown(drawing)[2] == "- loser"
    assert shown(drawing)[3:] == ["{", '"x": "y"', "}"]


def test_notes_on_the_way_are_no_steps(drawing):
    drawing.add(event("STEP_SUCCEEDED", "/do/0/a#enter"))
    assert len(shown(drawing)) == 1
