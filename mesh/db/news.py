"""Word to a service's other processes that something has changed: PostgreSQL's NOTIFY, sent with the commit.

It is a hint and no more: whoever hears it looks into the tables, and whoever may have missed some is told so. On
SQLite a service is one process, which needs no word.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["Hear", "News", "announce"]

Hear = Callable[[str | None], None]
"""Called on the loop with what was announced; with None when words may have been missed."""

_KEPT = "tiation_news"
_LOOK_S = 0.2
"""How often the listening thread sees whether it shall end."""
_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 2.0
_MAX_CHARS = 2000
"""PostgreSQL takes 8,000 bytes."""


def announce(connection: Connection, topic: str, text: str) -> None:
    """Tell the service's other processes about a change, once it commits and not at all where it does not.

    Args:
        connection: of the transaction that makes the change.
        topic: what they listen for; one word.
        text: what has changed, a resource's name mostly; longer ones than 2,000 characters are said as None.
    """
    if connection.dialect.name == "postgresql":
        connection.info.setdefault(_KEPT, {})[f"{topic} {text if len(text) <= _MAX_CHARS else ''}"] = None


class News:
    """Sends and hears words.

    Args:
        engine: the database.
        schema: the service's own.
    """

    def __init__(self, engine: Engine, schema: str) -> None:
        self._engine = engine
        self._channel = f"tiation_{schema}"
        self._origin = secrets.token_hex(6)
        self._hearers: dict[str, list[Hear]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger("mesh.news")

    def listen(self, topic: str, hear: Hear) -> None:
        """Have `hear` called on this loop when another process announces something under the topic."""
        self._hearers.setdefault(topic, []).append(hear)
        if self._thread is None and self._engine.dialect.name == "postgresql":
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="db-listen", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def forget(self, connection: Connection, count: int = 0) -> None:
        """Drop what was announced beyond the first `count` words: it will not commit."""
        kept = connection.info.get(_KEPT)
        while kept and len(kept) > count:
            kept.popitem()

    def count(self, connection: Connection) -> int:
        """How many words the transaction has to say so far."""
        return len(connection.info.get(_KEPT) or ())

    def send(self, connection: Connection) -> None:
        """Say everything that was announced, with this transaction's commit."""
        words = connection.info.pop(_KEPT, None)
        if words:
            connection.exec_driver_sql(
                "SELECT pg_notify(%s, word) FROM unnest(%s::text[]) AS word",
                (self._channel, [f"{self._origin} {word}" for word in words]),
            )

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self._hear_all(loop)
            except Exception as error:  # noqa: BLE001 -- whatever it is, words are heard again when it is over
                if self._ended.is_set():
                    return
                self._log.warning("words of other processes are missed", error=" ".join(str(error).split())[:300])
            if time.monotonic() - began > _MAX_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            self._ended.wait(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)

    def _hear_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen until the connection breaks; begin with word that some may have been missed."""
        pooled = self._engine.raw_connection()
        driver: Any = pooled.driver_connection
        pooled.detach()  # it is never given back to the pool
        try:
            driver.rollback()
            driver.autocommit = True
            driver.execute(f'LISTEN "{self._channel}"')
            for topic in tuple(self._hearers):
                self._tell(loop, topic, None)
            while not self._ended.is_set():
                for notice in driver.notifies(timeout=_LOOK_S):
                    self._take(loop, notice.payload)
                    if self._ended.is_set():
                        return
        finally:
            with suppress(SQLAlchemyError, Exception):  # it may be broken already
                driver.close()

    def _take(self, loop: asyncio.AbstractEventLoop, payload: str) -> None:
        origin, _, rest = payload.partition(" ")
        if origin != self._origin:
            topic, _, text = rest.partition(" ")
            self._tell(loop, topic, text or None)

    def _tell(self, loop: asyncio.AbstractEventLoop, topic: str, text: str | None) -> None:
        for hear in self._hearers.get(topic, ()):
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(hear, text)
