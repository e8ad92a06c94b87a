"""Texts longer than a graph reads, in windows that overlap: each token is answered where it has most around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.servables.tokens import Tokens

__all__ = ["SpecialTokens", "Window", "merged", "windows_of"]


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """What a tokenizer puts around a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @staticmethod
    def of(tokenizer: Tokenizer) -> SpecialTokens:
        """Found out with a text."""
        encoded = tokenizer.encode("a")
        own = [at for at, special in enumerate(encoded.special_tokens_mask) if not special]
        first, last = (own[0], own[-1] + 1) if own else (len(encoded.ids), len(encoded.ids))
        return SpecialTokens(tuple(encoded.ids[:first]), tuple(encoded.ids[last:]))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.before) + len(self.after)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text: its tokens from `start` up to `end`."""

    start: int
    end: int

    def tokens(self, ids: Sequence[int], special: SpecialTokens) -> Tokens:
        """As the graph reads it."""
        return Tokens((*special.before, *ids[self.start : self.end], *special.after))


def windows_of(count: int, size: int, overlap: int) -> Iterator[Window]:
    """The windows of so many tokens; none of no tokens.

    Args:
        count: of the text's tokens.
        size: the most tokens in a window.
        overlap: how many two windows share, fewer than `size`.
    """
    start = 0
    while start < count:
        end = min(count, start + size)
        yield Window(start, end)
        if end == count:
            return
        start += size - overlap


def merged(windows: Sequence[Window], answers: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One answer for each token of a text, float32 (tokens, ...).

    Args:
        windows: of the text, in order; at least one.
        answers: of each, float32 (its tokens, ...).
    """
    count = windows[-1].end
    made = np.zeros((count, *answers[0].shape[1:]), np.float32)
    depth = np.full(count, -1, np.int64)
    for window, answer in zip(windows, answers, strict=True):
        places = np.arange(window.start, window.end)
        before = places - window.start if window.start else np.full(len(places), count)
        after = window.end - 1 - places if window.end < count else np.full(len(places), count)
        deep = np.minimum(before, after)
        better = deep > depth[window.start : window.end]
        made[window.start : window.end][better] = answer[better]
        depth[window.start : window.end][better] = deep[better]
    return made
