"""A model that goes on with a text by saying a list of words, as slowly as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from engine.generation.base import Piece, Prompt, Sampling, TokenScore, ToolCall
from engine.scheduler.terms import PLAIN, Terms

__all__ = ["Writer"]


class Writer:
    """Says its words, and remembers what it was asked and how often it was stopped before its end.

    Args:
        words: what it says, a token each.
        fails: raised after so many words.
        pause_s: between two words.
        calls: what it asks for at the end.
    """

    context = 100

    def __init__(
        self,
        words: Sequence[str] = ("One ", "two ", "three."),
        *,
        fails: tuple[int, Exception] | None = None,
        pause_s: float = 0.0,
        calls: tuple[ToolCall, ...] = (),
    ) -> None:
        self._words, self._fails, self._pause_s, self._calls = words, fails, pause_s, calls
        self.asked: list[tuple[Prompt, Sampling, Terms]] = []
        self.stopped = 0
        self.made = 0
        self.running = 0

    async def generate(self, prompt: Prompt, sampling: Sampling, terms: Terms = PLAIN) -> AsyncIterator[Piece]:
        """Its words, one a piece."""
        self.asked.append((prompt, sampling, terms))
        self.running += 1
        ended = False
        try:
            for at, word in enumerate(self._words):
                if self._fails is not None and at == self._fails[0]:
                    ended = True
                    raise self._fails[1]
                await asyncio.sleep(self._pause_s)
                self.made += 1
                yield Piece(word, None, (), 7, at + 1, self._scores(word, sampling))
            ended = True
            yield Piece("", "tool_calls" if self._calls else "stop", self._calls, 7, len(self._words))
        finally:
            self.running -= 1
            self.stopped += not ended

    def _scores(self, word: str, sampling: Sampling) -> tuple[TokenScore, ...]:
        if sampling.top_logprobs is None:
            return ()
        return (TokenScore(word, -0.5, ((word, -0.5), ("x", -1.5))[: sampling.top_logprobs]),)
