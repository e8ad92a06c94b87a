"""The memory that all models together may take: measured at load, and made by putting aside what nobody asks for.

A version takes up the bytes of its files, or what the process grew by while it was opened where that is more and
nothing else was at work meanwhile that could have grown it.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import structlog

from engine.errors import ModelTooBigError, NoRoomError
from engine.repository.memory import Memory

__all__ = ["Growth", "Room"]


class Room:
    """Keeps models within a number of bytes.

    Args:
        memory: where they are.
        limit_bytes: of all of them; 0 for no limit.
    """

    def __init__(self, memory: Memory, limit_bytes: int) -> None:
        self._memory = memory
        self._limit = limit_bytes
        self._measured: dict[str, int] = {}
        self._log = structlog.get_logger("engine.repository")

    def need(self, name: str, files_bytes: int) -> int:
        """What a version will take up: what it took the last time, or else the bytes of its files."""
        return self._measured.get(name) or files_bytes if self._limit else 0

    def need_of(self, name: str, folder: Path) -> int:
        """The same, from its folder. Reads the disk."""
        return self.need(name, sum(path.stat().st_size for path in folder.glob("*") if path.is_file()))

    def measured(self, name: str, size: int) -> None:
        """Remember what a version took up."""
        self._measured[name] = size

    def has(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        return not self._limit or self._memory.used_bytes + size <= self._limit

    async def make(self, name: str, size: int) -> None:
        """Make room for a version, by putting others aside.

        Raises:
            ModelTooBigError: there will never be enough.
            NoRoomError: what is in memory cannot be put aside now.
        """
        if self._limit and size > self._limit:
            raise ModelTooBigError(
                f"{name} needs {size} bytes, and all models together may take {self._limit}; raise "
                "engine.memory_budget_bytes",
                resource=name,
                needs=size,
                limit=self._limit,
            )
        while not self.has(size):
            idle = [loaded for loaded in self._memory.idle if loaded.memory_bytes]
            if not idle:
                raise NoRoomError(
                    f"{name} needs {size} bytes; of the {self._limit} for all models "
                    f"{self._memory.used_bytes} are taken by models that are pinned or in use",
                    retry_after_s=1.0,
                    resource=name,
                )
            self._log.info("model put aside", model=idle[0].name, bytes=idle[0].memory_bytes)
            self._memory.set_aside(idle[0].name, idle[0].uid)
            await self._memory.closed([idle[0].name])


class Growth:
    """What the process grows by, from here on.

    Args:
        memory: tells whether others are at work.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._alone = not memory.busy
        self._before = psutil.Process().memory_info().rss

    def bytes(self) -> int:
        """How many bytes; 0 where others were at work when it began or are now."""
        if not self._alone or self._memory.busy:
            return 0
        return max(0, psutil.Process().memory_info().rss - self._before)
