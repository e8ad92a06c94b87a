"""The supervisor's own log: ECS JSON, one object a line, as the services write theirs.

A service's log comes of structlog; the supervisor does without it, as it stays in memory beside all of them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

__all__ = ["LogStream", "read_line"]

_ECS_VERSION = "8.11"


class LogStream(io.TextIOBase):
    """Takes text and makes a log line of each of its lines.

    Args:
        file: where they go.
        level: `info`, `warning` or `error`.
        now: the time.
    """

    def __init__(self, file: TextIO, level: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._file = file
        self._level = level
        self._now = now
        self._rest = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Take text; what is no whole line yet waits for its end."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            self._file.write(self._line(line.rstrip()))
        self._file.flush()
        return len(text)

    def say(self, text: str) -> None:
        """Take a whole line."""
        self.write(f"{text}\n")

    def _line(self, text: str) -> str:
        entry = {
            "@timestamp": f"{self._now():%Y-%m-%dT%H:%M:%S.%fZ}",
            "log.level": self._level,
            "message": text,
            "service.name": "supervisor",
            "ecs.version": _ECS_VERSION,
        }
        return json.dumps(entry, ensure_ascii=False) + "\n"


def read_line(line: str) -> tuple[str, str]:
    """A line's level and message; of one that is no log line, `info` and the line itself."""
    try:
        entry = json.loads(line)
        return str(entry["log.level"]), str(entry["message"])
    except (ValueError, KeyError, TypeError):
        return "info", line
