"""What the doctor says about one thing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BAD", "GOOD", "UNSURE", "Finding", "bad", "good", "unsure"]

GOOD, UNSURE, BAD = "good", "unsure", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: what it is, few words.
        state: `good`, `unsure` (works, but see to it) or `bad`.
        detail: what was found.
        remedy: what to do; empty where nothing is to be done.
    """

    what: str
    state: str
    detail: str
    remedy: str = ""


def good(what: str, detail: str) -> Finding:
    """Nothing is wrong."""
    return Finding(what, GOOD, detail)


def unsure(what: str, detail: str, remedy: str) -> Finding:
    """It works, but somebody should see to it."""
    return Finding(what, UNSURE, detail, remedy)


def bad(what: str, detail: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(what, BAD, detail, remedy)
