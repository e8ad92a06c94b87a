"""An answer as it grows: from tokens to the pieces that its reader gets, until it has ended.

Which token comes next, and which one is the last, is decided elsewhere, beside this or before: text is made where it is
read, and tokens that came together make one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from tokenizers import Tokenizer

from engine.generation.base import Finish, Piece, TokenScore, ToolCall
from engine.generation.sampling import Scored
from engine.generation.text import Characters, StopTexts
from engine.generation.tools import CallReader

__all__ = ["Answer", "Ending", "Made"]

Ending: TypeAlias = Literal["end", "complete", "length"]
"""Why no token comes after one: it ends the text and is no part of it, nothing can follow it, or there is no room."""
Made: TypeAlias = tuple[int, Scored | None]
"""A token, with its log-probability where that is told."""


class Answer:
    """The text that a sequence makes.

    Args:
        tokenizer: knows the texts of tokens.
        stops: texts that end it.
        prompt_tokens: how many came before it.
        calls: finds calls of tools in it; None where there are none to find.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stops: Sequence[str],
        prompt_tokens: int,
        calls: CallReader | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._characters = Characters(tokenizer)
        self._stops = StopTexts(stops)
        self._prompt_tokens = prompt_tokens
        self._calls = calls
        self._scores: list[tuple[int, TokenScore]] = []
        self._made = 0
        self._over = False
        self._length = 0
        self._shown = 0

    @property
    def made(self) -> int:
        """How many tokens it has."""
        return self._made

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    def push(self, made: Sequence[Made], ending: Ending | None = None) -> Piece | None:
        """Take the next tokens, any number of them; None where there is nothing to show yet.

        Args:
            made: the tokens.
            ending: why the last of them is the last one of all; None where it is not.
        """
        shown = ""
        for at, (token, scored) in enumerate(made, 1):
            self._made += 1
            if ending == "end" and at == len(made):  # it ends the text and is no part of it
                break
            text = self._characters.push(token)
            if scored is not None:
                self._scores.append((self._length, self._score(token, scored)))
            self._length += len(text)
            shown += self._stops.push(text)
            if self._stops.found:
                return self._piece(shown, "stop")
        if ending is None:
            return self._piece(shown, None)
        rest = self._characters.rest()
        self._length += len(rest)
        shown += self._stops.push(rest)
        if self._stops.found:
            return self._piece(shown, "stop")
        return self._piece(shown + self._stops.rest(), "length" if ending == "length" else "stop")

    def _piece(self, text: str, finish: Finish | None) -> Piece | None:
        self._shown += len(text)
        self._over = finish is not None
        scores = self._told(last=self._over) if self._scores else ()
        calls: tuple[ToolCall, ...] = ()
        if self._calls is not None:
            text, calls = self._calls.push(text, last=self._over)
        if not text and finish is None and not scores:
            return None
        return Piece(text, "tool_calls" if calls else finish, calls, self._prompt_tokens, self._made, scores)

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
