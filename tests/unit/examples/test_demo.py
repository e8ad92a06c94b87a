"""What the demo ends with: its exit code says whether the example still does what it is meant to do."""

from __future__ import annotations

import importlib
import io
import sqlite3
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.fakes.installed import EXAMPLE


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("demo")


@pytest.fixture
def make_crm(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("make_crm").make_crm


def ended(demo, crm, *, matched: int, tickets: int = 20) -> tuple[bool, str]:
    """Verdict and text for twenty messages of which some reached their queue and some became tickets."""
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
    platform = SimpleNamespace(console=Console(file=printed))
    return demo.report(platform, outcomes, crm), printed.getvalue()


def test_it_succeeds_when_nearly_every_message_reached_its_queue(demo, make_crm, tmp_path):
    assert ended(demo, make_crm(tmp_path), matched=18)[0]


@pytest.mark.parametrize("matched", [0, 16])
def test_it_fails_when_too_few_messages_reached_their_queue(demo, make_crm, tmp_path, matched):
    well, said = ended(demo, make_crm(tmp_path), matched=matched)
    assert not well
    assert "less than the 85%" in said


def test_it_fails_when_a_ticket_is_missing(demo, make_crm, tmp_path):
    assert not ended(demo, make_crm(tmp_path), matched=20, tickets=19)[0]


def test_the_crm_is_made_once_and_then_left_as_it_is(make_crm, tmp_path):
    assert make_crm(tmp_path) == make_crm(tmp_path) == tmp_path / "integration" / "data" / "crm.db"
