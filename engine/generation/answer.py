"""An answer as it grows: from tokens to the pieces that its reader gets, until it has ended.

Which token comes next is chosen elsewhere; how pieces reach the reader is `engine.generation.outbox`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tokenizers import Tokenizer

from engine.generation.base import Finish, Piece, TokenScore
from engine.generation.sampling import Scored
from engine.generation.text import Characters, StopTexts
from engine.generation.tools import CallReader

__all__ = ["Answer"]


class Answer:
    """The text that a sequence makes.

    Args:
        tokenizer: knows the texts of tokens.
        ends: tokens that end it; they are not part of it.
        stops: texts that end it.
        max_tokens: the most tokens that it may have.
        prompt_tokens: how many came before it.
        calls: finds calls of tools in it; None where there are none to find.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        ends: frozenset[int],
        stops: Sequence[str],
        max_tokens: int,
        prompt_tokens: int,
        calls: CallReader | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._characters = Characters(tokenizer)
        self._stops = StopTexts(stops)
        self._ends = ends
        self._max_tokens = max_tokens
        self._prompt_tokens = prompt_tokens
        self._calls = calls
        self._scores: list[tuple[int, TokenScore]] = []
        self._made = 0
        self._length = 0
        self._shown = 0

    @property
    def made(self) -> int:
        """How many tokens were made."""
        return self._made

    def push(self, token: int, scored: Scored | None = None, *, complete: bool = False) -> Piece | None:
        """Take the next token; None where there is nothing to show yet.

        Args:
            token: its id.
            scored: its log-probability, where that is told.
            complete: whether nothing can follow it.
        """
        self._made += 1
        if token in self._ends:
            return self._last("stop", self._characters.rest())
        text = self._characters.push(token)
        if scored is not None:
            self._scores.append((self._length, self._score(token, scored)))
        self._length += len(text)
        shown = self._stops.push(text)
        if self._stops.found:
            return self._piece(shown, "stop")
        if complete or self._made >= self._max_tokens:
            rest = self._characters.rest()
            self._length += len(rest)
            return self._last("stop" if complete else "length", rest, shown)
        return self._piece(shown, None)

    def _last(self, finish: Finish, rest: str, shown: str = "") -> Piece:
        """The last piece, with what was held back."""
        shown += self._stops.push(rest)
        if not self._stops.found:
            shown += self._stops.rest()
        last = self._piece(shown, "stop" if self._stops.found else finish)
        assert last is not None  # noqa: S101 -- a piece that ends is always told
        return last

    def _piece(self, text: str, finish: Finish | None) -> Piece | None:
        self._shown += len(text)
        piece = Piece(text, finish, (), self._prompt_tokens, self._made, self._told(last=finish is not None))
        if self._calls is not None:
            shown, calls = self._calls.push(text, last=finish is not None)
            piece = replace(piece, text=shown, tool_calls=calls, finish="tool_calls" if calls else finish)
        return piece if piece.text or piece.finish or piece.scores else None

    def _told(self, *, last: bool) -> tuple[TokenScore, ...]:
        """The scores of the tokens that begin in what is shown."""
        count = 0
        while count < len(self._scores) and (self._scores[count][0] < self._shown or (last and not self._stops.found)):
            count += 1
        told, self._scores = self._scores[:count], self._scores[count:]
        return tuple(score for _, score in told)

    def _score(self, token: int, scored: Scored) -> TokenScore:
        logprob, top = scored
        return TokenScore(self._name(token), logprob, tuple((self._name(each), value) for each, value in top))

    def _name(self, token: int) -> str:
        return str(self._tokenizer.decode([token], skip_special_tokens=False))
