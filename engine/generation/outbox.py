"""Where tokens wait for their reader: left by the thread that computes, made text of on the reader's loop.

A step only leaves its tokens and goes on: each loop is woken once, and does the rest beside the next step. A reader who
is slow gets fewer, longer pieces. What may wait is bounded; the one who reads nothing at all is told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from engine.errors import AnswerUnreadError, EngineError
from engine.generation.answer import Ending, Made
from engine.generation.sampling import Scored

__all__ = ["MAX_UNREAD", "Courier", "Outbox", "StepResult"]

MAX_UNREAD = 4096
"""Tokens that may wait for a reader."""


class Outbox:
    """The tokens of one answer on their way. All of it is used on the reader's loop alone.

    Args:
        loop: the reader's.

    Attributes:
        unread: called once where too much waits; whoever computes the answer sets it, to compute no more.
        received: how many tokens have come.
        first_at: when the first one was made, seconds of `time.perf_counter`; 0 before.
        last_at: when the last one was made.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.unread: Callable[[], None] | None = None
        self.received = 0
        self.first_at = self.last_at = 0.0
        self._made: list[Made] = []
        self._ending: Ending | None = None
        self._error: EngineError | None = None
        self._ended = False
        self._reader: asyncio.Future[None] | None = None

    def receive(self, token: int, scored: Scored | None, ending: Ending | None, at: float) -> None:
        """A token has come, made at that time; after the end it changes nothing."""
        if self._ended:
            return
        if len(self._made) >= MAX_UNREAD:
            words = f"more than {MAX_UNREAD} tokens of the answer waited to be read; read it as it comes"
            self.fail(AnswerUnreadError(words))
            if self.unread is not None:
                self.unread()
            return
        self._made.append((token, scored))
        self.received += 1
        self.first_at, self.last_at = self.first_at or at, at
        self._ending = ending
        self._ended = ending is not None
        self._ring()

    def fail(self, error: EngineError) -> None:
        """Say why nothing more comes; what came before is still read. After the end it changes nothing."""
        if not self._ended:
            self._ended, self._error = True, error
            self._ring()

    async def take(self) -> tuple[Sequence[Made], Ending | None]:
        """All tokens that wait, and why the last one is the last of all; waits for the next where there is none.

        Raises:
            EngineError: why nothing more comes.
        """
        while not self._made:
            if self._error is not None:
                raise self._error
            self._reader = self.loop.create_future()
            await self._reader
        made, self._made = self._made, []
        return made, self._ending

    def _ring(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step made for some rows.

    Attributes:
        outboxes: of each row.
        tokens: of each row; no more than a place where it failed.
        at: when they were made, seconds of `time.perf_counter`.
        scored: by row, for those that are told log-probabilities.
        ends: by row, for those that go no further: why, or what failed.
    """

    outboxes: Sequence[Outbox]
    tokens: Sequence[int]
    at: float
    scored: Mapping[int, Scored] = field(default_factory=dict)
    ends: Mapping[int, Ending | EngineError] = field(default_factory=dict)

    def go_on(self) -> Sequence[int]:
        """The rows that go on."""
        rows = range(len(self.outboxes))
        return [row for row in rows if row not in self.ends] if self.ends else rows

    def deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand out what is for readers on this loop; on it."""
        plain = not self.ends and not self.scored
        for row, (outbox, token) in enumerate(zip(self.outboxes, self.tokens, strict=True)):
            if outbox.loop is not loop:
                continue
            end = None if plain else self.ends.get(row)
            if isinstance(end, EngineError):
                outbox.fail(end)
            else:
                outbox.receive(token, None if plain else self.scored.get(row), end, self.at)


class Courier:
    """Carries what steps make to the loops of those who read it, in order; from any thread.

    What waits for a loop that is busy is bounded by what may be made for the rows under way.
    """

    def __init__(self) -> None:
        self._bags: dict[asyncio.AbstractEventLoop, _Bag] = {}

    def send(self, result: StepResult, loops: Iterable[asyncio.AbstractEventLoop]) -> None:
        """Send it to all these loops; on those that are closed nobody reads any more."""
        for loop in loops:
            if loop.is_closed():
                self._bags.pop(loop, None)
            else:
                (self._bags.get(loop) or self._bags.setdefault(loop, _Bag(loop))).add(result)

    def fail(self, outboxes: Sequence[Outbox], error: EngineError) -> None:
        """Tell some readers why nothing more comes."""
        ends = dict.fromkeys(range(len(outboxes)), error)
        self.send(StepResult(outboxes, [0] * len(outboxes), 0.0, {}, ends), {each.loop for each in outboxes})


class _Bag:
    """What waits for one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._results: deque[StepResult] = deque()
        self._called = False

    def add(self, result: StepResult) -> None:
        """Take it along, and call the loop where it was not called yet."""
        self._results.append(result)
        if not self._called:
            self._called = True
            with suppress(RuntimeError):  # it was closed just now
                self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._called = False  # before, not after: who adds from now on calls again
        while self._results:
            self._results.popleft().deliver(self._loop)
