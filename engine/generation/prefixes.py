"""Keys and values of the last prompts, so that those that begin alike are read from where they differ.

Chats share what their system says, and each turn begins as the one before it. What one owner's prompts left behind is
used for that owner's prompts alone: nobody finds out by how fast an answer comes what others have asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.generation.cache import Cache

__all__ = ["LEAST_TOKENS", "NOTHING_KEPT", "Prefix", "Prefixes"]

LEAST_TOKENS = 32
"""Less than this is read again as fast as it is found and copied."""
_MOST = 64
"""So many prompts are kept at most: each is compared with each prompt of its owner that comes."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a prompt begins with that was read before.

    Attributes:
        cache: of one row; None where there is nothing.
        tokens: how many of its first tokens are the prompt's.
    """

    cache: Cache | None
    tokens: int


NOTHING_KEPT = Prefix(None, 0)


@dataclass(slots=True, eq=False)
class _Kept:
    """A prompt that was read: whose, its tokens, int64 (n,), and its cache, one row of as many tokens."""

    owner: str
    tokens: NDArray[np.int64]
    cache: Cache


class Prefixes:
    """The last prompts of one model. Used by one thread.

    Args:
        limit_tokens: how many tokens they may have together.
    """

    def __init__(self, limit_tokens: int) -> None:
        self._limit = limit_tokens
        self._kept: list[_Kept] = []
        self._held: Counter[str] = Counter()

    @property
    def tokens(self) -> int:
        """How many tokens are kept."""
        return self._held.total()

    def find(self, owner: str, prompt: Sequence[int]) -> Prefix:
        """What is kept that a prompt of this owner begins with, the most there is; its last token is left to read."""
        tokens = np.array(prompt[:-1], np.int64)
        best, most = None, LEAST_TOKENS - 1
        for each in self._kept:
            if each.owner == owner and (alike := _alike(each.tokens, tokens)) > most:
                best, most = each, alike
        if best is None:
            return NOTHING_KEPT
        self._kept.remove(best)
        self._kept.append(best)
        return Prefix(best.cache, most)

    def wants(self, owner: str, prompt: Sequence[int]) -> bool:
        """Whether a prompt that was read shall be kept: it is long enough, and no beginning of one that is kept."""
        if not LEAST_TOKENS <= len(prompt) <= self._limit:
            return False
        tokens = np.array(prompt, np.int64)
        return not any(each.owner == owner and _alike(each.tokens, tokens) == len(tokens) for each in self._kept)

    def keep(self, owner: str, prompt: Sequence[int], cache: Cache) -> None:
        """Keep a prompt that was read, in place of those of its owner that it goes on from.

        Where there are too many, the oldest ones go of the owner who has the most.

        Args:
            owner: whose.
            prompt: its tokens.
            cache: one row, of these tokens alone.
        """
        tokens = np.array(prompt, np.int64)
        for each in list(self._kept):
            if each.owner == owner and _alike(each.tokens, tokens) == len(each.tokens):
                self._drop(each)
        self._kept.append(_Kept(owner, tokens, cache))
        self._held[owner] += len(tokens)
        while self.tokens > self._limit or len(self._kept) > _MOST:
            largest = max(self._held, key=lambda owner: self._held[owner])
            self._drop(next(each for each in self._kept if each.owner == largest))

    def _drop(self, kept: _Kept) -> None:
        self._kept.remove(kept)
        self._held[kept.owner] -= len(kept.tokens)
        if not self._held[kept.owner]:
            del self._held[kept.owner]


def _alike(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many tokens both begin with."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length
