"""What has ended by itself, and what was put away for that: processes, and versions of models that ended the engine.

Who keeps this are `cli.supervisor.ends` and `engine.repository.faults`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cli.doctor.finding import Finding, good, unsure
from cli.home import Home
from cli.supervisor.ends import ended_lately, told
from mesh.config import Settings

__all__ = ["look_at_ends"]

_SUSPECT_S = 600.0
"""As long as the engine has a version run alone."""


class _Known(msgspec.Struct):
    """What an engine keeps of versions that ended it."""

    suspects: dict[str, float] = {}
    blamed: dict[str, str] = {}


def look_at_ends(home: Home, settings: Settings) -> Iterator[Finding]:
    """Processes that ended by themselves lately, and the versions that are held against that."""
    ended = ended_lately(home.path)
    for process, ends in ended.items():
        yield unsure("ended by itself", told(ends), f"it was started again; `tiation logs {process}` says what it did")
    if not ended:
        yield good("ended by itself", "no process did in the last 24 h")
    models = Path(settings.engine.models) if settings.engine.models else home.path / "engine" / "models"
    for file in sorted(models.glob(".faults-*/known.json")):
        yield from _held(file)


def _held(file: Path) -> Iterator[Finding]:
    """The versions that one engine holds it against."""
    try:
        known = msgspec.json.decode(file.read_bytes(), type=_Known)
    except (OSError, msgspec.MsgspecError):  # it is being written, or was cut off: the engine does without it too
        return
    for version, fault in known.blamed.items():
        yield unsure(
            "put away", f"{version} ended the engine twice while it computed ({fault})",
            "push a version whose graph takes every request; `tiation models load` loads this one all the same",
        )  # fmt: skip
    for version, at in known.suspects.items():
        if 0 <= time.time() - at < _SUSPECT_S:
            yield unsure(
                "suspect", f"{version} computed when the engine ended",
                "nothing: it is put away where it does so again within ten minutes",
            )  # fmt: skip
