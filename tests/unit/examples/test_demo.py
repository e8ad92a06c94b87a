"""What the demo ends with: its exit code says whether the example still does what it is meant to do."""

from __future__ import annotations

import importlib
import io
import sqlite3

import pytest
from rich.console import Console

from tests.fakes.installed import EXAMPLE


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("demo")


def ended(demo, home, *, matched: int, tickets: int = 20) -> tuple[int, str]:
    """Exit code and text for twenty messages of which some reached their queue and some became tickets."""
    crm = demo.make_crm(home)
    database = sqlite3.connect(crm)
    rows = [(str(n), "m", "i", 0.5, "q", "p", 1) for n in range(tickets)]
    database.executemany("INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    outcomes = [
        demo.Outcome(
            {"message": "m", "expected_queue": "right"},
            {"intent": "i", "score": 0.5, "queue": "right" if n < matched else "wrong"},
            1.0,
        )
        for n in range(20)
    ]
    printed = io.StringIO()
    return demo.report(home, outcomes, Console(file=printed)), printed.getvalue()


def test_it_succeeds_when_nearly_every_message_reached_its_queue(demo, tmp_path):
    assert ended(demo, tmp_path, matched=18)[0] == 0


@pytest.mark.parametrize("matched", [0, 16])
def test_it_fails_when_too_few_messages_reached_their_queue(demo, tmp_path, matched):
    code, said = ended(demo, tmp_path, matched=matched)
    assert code == 1
    assert "less than the 85%" in said


def test_it_fails_when_a_ticket_is_missing(demo, tmp_path):
    assert ended(demo, tmp_path, matched=20, tickets=19)[0] == 1


def test_the_crm_is_made_once_and_then_left_as_it_is(demo, tmp_path):
    assert demo.make_crm(tmp_path) == demo.make_crm(tmp_path) == tmp_path / "integration" / "data" / "crm.db"
