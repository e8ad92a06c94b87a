"""Several engines on one folder of models and one database: who may change it, and who hears of what others changed.

What is loaded or let go then is the repository's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog

from engine.repository.models import Model, ModelVersion
from mesh.db import Database

__all__ = ["Coalesced", "Follower", "Sharing"]

_LOOK_S = 5.0
"""How often an engine looks by itself, should a word not have reached it."""


class Sharing:
    """How an engine shares its models with others.

    Args:
        database: the service's own database; on PostgreSQL there may be other engines.
        process: this one, `engine-2`.
    """

    def __init__(self, database: Database, process: str) -> None:
        self._database = database
        self.shared = not database.is_sqlite
        self.process = process
        self.left_behind = f".upload-{process}."
        """How the folders of this process's uploads begin, and of those that an earlier one of its name left behind."""
        self.uploads = f"{self.left_behind}{secrets.token_hex(4)}."
        """How those of this one begin: what comes in while what was left behind is swept stays."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Keep other engines from changing models meanwhile."""
        return self._database.alone("models")


class Coalesced:
    """Work that many may ask for at once: each gets one that began after it asked, and no more is done.

    Args:
        work: what to do.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def __call__(self) -> None:
        """Have it done; where whoever does it fails or goes away, the next one does it."""
        asked = self._begun
        async with self._lock:
            if self._done <= asked:
                self._begun += 1
                await self._work()
                self._done = self._begun


class Follower:
    """Follows what other engines do.

    Args:
        database: where they say so.
        catch_up: brings this engine's memory to what is kept.
    """

    def __init__(self, database: Database, catch_up: Callable[[], Awaitable[None]]) -> None:
        self._catch_up = catch_up
        self._changed = asyncio.Event()
        self._log = structlog.get_logger("engine.follower")
        database.listen("entries", self._hear)

    def _hear(self, word: str | None) -> None:
        if word is None or word.startswith((f"{ModelVersion.__name__} ", f"{Model.__name__} ")):
            self._changed.set()

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                await self._catch_up()
            except Exception as error:  # noqa: BLE001 -- the database, a disk: what was not seen now is seen at the next look
                self._log.warning("other engines not followed", error=str(error))
