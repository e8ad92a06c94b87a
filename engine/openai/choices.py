"""Several answers at once: their pieces as they come, and what they are once all of them are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import cast

from engine.generation.base import Finish, Piece, TokenScore, ToolCall

__all__ = ["Choice", "Usage", "together"]

_AHEAD = 4
"""Pieces of an answer that wait to be taken; its computation waits with them."""


@dataclass(slots=True)
class Usage:
    """Tokens of a request: each prompt counts once, however many answers it has.

    Args:
        answers: how many answers each prompt has.
    """

    answers: int = 1
    prompts: dict[int, int] = field(default_factory=dict)
    completions: dict[int, int] = field(default_factory=dict)

    def add(self, index: int, piece: Piece) -> tuple[int, int]:
        """Count a piece of an answer; returns how many tokens it adds to prompts and answers."""
        before = self.prompt_tokens, self.completion_tokens
        prompt = index // self.answers
        self.prompts[prompt] = max(self.prompts.get(prompt, 0), piece.prompt_tokens)
        self.completions[index] = max(self.completions.get(index, 0), piece.completion_tokens)
        return self.prompt_tokens - before[0], self.completion_tokens - before[1]

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(self.prompts.values())

    @property
    def completion_tokens(self) -> int:
        """Of all answers."""
        return sum(self.completions.values())


@dataclass(slots=True)
class Choice:
    """An answer as far as it has come."""

    parts: list[str] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish | None = None

    def add(self, piece: Piece) -> None:
        """Put the next piece behind it."""
        self.parts.append(piece.text)
        self.scores.extend(piece.scores)
        self.tool_calls = self.tool_calls or piece.tool_calls
        self.finish = piece.finish or self.finish

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)


async def together(streams: Sequence[AsyncIterator[Piece]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of several answers, each with its answer's number, as they come.

    Whatever ends the iteration ends all of them: an error of one, or whoever iterates.
    """
    if len(streams) == 1:
        async with aclosing(cast("AsyncGenerator[Piece, None]", streams[0])) as only:
            async for piece in only:
                yield 0, piece
        return
    waiting: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue(_AHEAD * len(streams))
    pumps = [asyncio.create_task(_pump(stream, at, waiting)) for at, stream in enumerate(streams)]
    try:
        running = len(pumps)
        while running:
            number, came = await waiting.get()
            if isinstance(came, BaseException):
                raise came
            if came is None:
                running -= 1
            else:
                yield number, came
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(
    stream: AsyncIterator[Piece], at: int, waiting: asyncio.Queue[tuple[int, Piece | BaseException | None]]
) -> None:
    """Put an answer's pieces into the queue, then how it ended."""
    try:
        async with aclosing(cast("AsyncGenerator[Piece, None]", stream)) as pieces:
            async for piece in pieces:
                await waiting.put((at, piece))
    except Exception as error:  # noqa: BLE001 -- it is raised again where the pieces are taken
        await waiting.put((at, error))
    else:
        await waiting.put((at, None))
