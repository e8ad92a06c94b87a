"""From tokens to text that can be shown: whole characters, nothing of a stop text, nothing that may become one.

Which tokens are made, and who reads the text, is others'.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

__all__ = ["Characters", "StopTexts"]

_UNKNOWN = "\ufffd"
_LONGEST_CHARACTER = 8
"""Tokens that may be waited for until a character is whole: UTF-8 has at most four bytes."""


class Characters:
    """Turns tokens into text, one after the other; a character in several tokens comes when it is whole.

    A token's text may depend on the one before it (a space in front of a word), so a few of them are decoded each time
    and what is already out is taken off, as Hugging Face's text-generation-inference does it.

    Args:
        tokenizer: knows the texts of tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._told: list[int] = []
        self._new: list[int] = []
        self._told_length = 0

    def push(self, token: int) -> str:
        """The text that a token completes; empty while a character is not whole."""
        self._new.append(token)
        return self._grown(last=False)

    def rest(self) -> str:
        """What is left at the end: a character that never became whole is shown as U+FFFD."""
        return self._grown(last=True) if self._new else ""

    def _grown(self, *, last: bool) -> str:
        text = self._tokenizer.decode(self._told + self._new)
        if not last and text.endswith(_UNKNOWN) and len(self._new) < _LONGEST_CHARACTER:
            return ""
        shown = str(text[self._told_length :])
        self._told, self._new = self._new, []
        self._told_length = len(self._tokenizer.decode(self._told))
        return shown


class StopTexts:
    """Finds texts that end an answer, and holds back what may become one.

    Args:
        stops: the texts; the first to be found wins.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What of the text so far can be shown and was not yet; once a stop text is found, nothing more."""
        if self.found or not self._stops:
            return "" if self.found else text
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = max(self._overlap(stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back and became no stop text."""
        rest, self._held = self._held, ""
        return rest

    def _overlap(self, stop: str) -> int:
        """How many of the last characters are the first ones of a stop text."""
        longest = min(len(stop) - 1, len(self._held))
        return next((count for count in range(longest, 0, -1) if self._held.endswith(stop[:count])), 0)
