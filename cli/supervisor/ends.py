"""Which of a platform's processes have ended by themselves, when and how: kept in its home, also over a restart.

What is said of them is `cli.doctor.ends`'.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from mesh.svid import write_private

__all__ = ["End", "as_json", "ended_lately", "how_ended", "note_end", "told"]

_LATELY = timedelta(hours=24)
_MOST = 256
"""So many are kept, the latest."""


class End(msgspec.Struct, frozen=True):
    """One of them.

    Attributes:
        process: its name.
        at: when.
        how: `was ended by signal 11 (SIGSEGV)`.
    """

    process: str
    at: datetime
    how: str


def how_ended(code: int) -> str:
    """A return code of `subprocess` in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = ""
    with suppress(ValueError):  # a real-time signal has none
        name = f" ({signal.Signals(-code).name})"
    return f"was ended by signal {-code}{name}"


def note_end(home: Path, process: str, how: str, now: datetime) -> None:
    """Keep that a process ended.

    Raises:
        OSError: it cannot be kept.
    """
    file = _file(home)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = [*_read(file), End(process, now, how)][-_MOST:]
    write_private(file, msgspec.json.encode(kept).decode())


def ended_lately(home: Path, now: datetime | None = None) -> dict[str, list[End]]:
    """The ends of the last day by process, each the oldest first; empty where there were none."""
    found: dict[str, list[End]] = {}
    since = (now or datetime.now(UTC)) - _LATELY
    for end in _read(_file(home)):
        if end.at >= since:
            found.setdefault(end.process, []).append(end)
    return found


def told(ends: Sequence[End]) -> str:
    """A process's ends in a line."""
    last = ends[-1]
    times = "once" if len(ends) == 1 else f"{len(ends)} times"
    return f"{last.process} {last.how} at {last.at:%Y-%m-%d %H:%M:%S} UTC; {times} in the last 24 h"


def as_json(ends: Sequence[End]) -> Mapping[str, object]:
    """The same for programs."""
    return {"times": len(ends), "last": f"{ends[-1].at:%Y-%m-%dT%H:%M:%SZ}", "how": ends[-1].how}


def _file(home: Path) -> Path:
    return home / "supervisor" / "ended.json"


def _read(file: Path) -> list[End]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[End])
    except (FileNotFoundError, msgspec.MsgspecError):  # a file that was cut off tells nothing
        return []
