"""Where pieces wait for their reader: put in by the thread that computes, taken out on the reader's loop.

A reader who is slow gets fewer, longer pieces. What may wait is bounded; the one who reads nothing at all is told so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from engine.errors import AnswerUnreadError, EngineError
from engine.generation.base import Piece

__all__ = ["MAX_UNREAD", "Outbox", "wake"]

MAX_UNREAD = 4096
"""Tokens that may wait for a reader."""


class Outbox:
    """The pieces of one answer on their way.

    Args:
        loop: the reader's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._pieces: list[Piece] = []
        self._read_tokens = 0
        self._error: EngineError | None = None
        self._ended = False
        self._event = asyncio.Event()

    def put(self, piece: Piece) -> bool:
        """Leave a piece for the reader; False where too much waits: then this is the end, with an error."""
        with self._lock:
            if self._ended:
                return False
            if piece.completion_tokens - self._read_tokens > MAX_UNREAD:
                self._ended = True
                self._error = AnswerUnreadError(
                    f"more than {MAX_UNREAD} tokens of the answer waited to be read; read it as it comes"
                )
                return False
            self._pieces.append(piece)
            self._ended = piece.finish is not None
            return True

    def fail(self, error: EngineError) -> None:
        """Say why nothing more comes; what came before is still read. After the end it changes nothing."""
        with self._lock:
            if not self._ended:
                self._ended, self._error = True, error

    async def take(self) -> Piece:
        """Everything that waits, as one piece; waits for the next where nothing does.

        Raises:
            EngineError: why nothing more comes.
        """
        while True:
            with self._lock:
                pieces, self._pieces = self._pieces, []
                error = self._error
                self._event.clear()
                if pieces:
                    self._read_tokens = pieces[-1].completion_tokens
            if pieces:
                return _joined(pieces)
            if error is not None:
                raise error
            await self._event.wait()

    def ring(self) -> None:
        """Wake the reader; on its loop."""
        self._event.set()


def wake(outboxes: Iterable[Outbox]) -> None:
    """Wake the readers of several, once a loop; from any thread."""
    by_loop: dict[int, list[Outbox]] = {}
    for outbox in outboxes:
        by_loop.setdefault(id(outbox.loop), []).append(outbox)
    for same in by_loop.values():
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            same[0].loop.call_soon_threadsafe(_ring, same)


def _ring(outboxes: Iterable[Outbox]) -> None:
    for outbox in outboxes:
        outbox.ring()


def _joined(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return replace(
        pieces[-1],
        text="".join(piece.text for piece in pieces),
        scores=tuple(score for piece in pieces for score in piece.scores),
    )
