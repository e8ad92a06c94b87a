"""The live view: what the last minutes came to, told again whenever it has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from analytics.buckets import Granularity, Span
from analytics.ports import LiveRuns
from analytics.query import Answer, Queries, Question

__all__ = ["LiveView", "Snapshot"]

_PACE_S = 1.0
_AT_LEAST_S = 5.0
"""A window moves on though nothing happens; whoever watches hears so."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The window as it is now.

    Attributes:
        sequence: how much had been counted.
        start_s: where the window begins.
        end_s: now.
        answer: what it came to.
        runs: the runs that have not ended, by agent and state.
    """

    sequence: int
    start_s: int
    end_s: float
    answer: Answer
    runs: Mapping[str, Mapping[str, int]]


class LiveView:
    """Tells what the last minutes came to.

    Args:
        queries: answer what is asked.
        runs: the runs that have not ended.
        now: the wall clock, in seconds.
    """

    def __init__(self, queries: Queries, runs: LiveRuns, now: Callable[[], float] = time.time) -> None:
        self._queries = queries
        self._runs = runs
        self._now = now
        self._news = asyncio.Event()
        self.sequence = 0
        self.closed = False

    def counted(self, position: int) -> None:
        """Hear that something was counted."""
        self.sequence = position
        self._wake()

    def close(self) -> None:
        """Let everyone who watches go."""
        self.closed = True
        self._wake()

    async def watch(self, question: Question, window_s: int, after: int) -> AsyncIterator[Snapshot]:
        """Snapshots of the last `window_s` seconds, until the service stops.

        Args:
            question: what is asked; its span is set anew each time.
            window_s: how far back to look; the minute that this falls into is counted whole.
            after: the newest sequence that was seen; the first snapshot waits for something newer, or for a while.
        """
        if after and after == self.sequence:
            await self._pause(_AT_LEAST_S, for_news=True)
        told: Snapshot | None = None
        while not self.closed:
            snapshot = await self.snapshot(question, window_s)
            if told is None or snapshot.end_s - told.end_s >= _AT_LEAST_S or _differs(snapshot, told):
                yield snapshot
                told = snapshot
            await self._pause(_PACE_S)

    async def snapshot(self, question: Question, window_s: int) -> Snapshot:
        """The window as it is now."""
        sequence, now_s = self.sequence, self._now()
        start_s = Granularity.MINUTE.floor(int(now_s) - window_s)
        span = Span(Granularity.MINUTE, start_s, Granularity.MINUTE.floor(int(now_s)) + 60)
        answer, runs = await asyncio.gather(
            self._queries.answer(replace(question, span=span, points=False)), self._runs.count(question.tenant)
        )
        return Snapshot(sequence, start_s, now_s, answer, runs)

    async def _pause(self, longest_s: float, *, for_news: bool = False) -> None:
        """Wait so long, less where the service stops, or where something is counted if that is waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                while not self.closed:
                    await self._news.wait()
                    if for_news:
                        return

    def _wake(self) -> None:
        event, self._news = self._news, asyncio.Event()
        event.set()


def _differs(one: Snapshot, other: Snapshot) -> bool:
    """Whether there is something new to tell."""
    return (one.sequence, one.start_s, one.runs) != (other.sequence, other.start_s, other.runs)
