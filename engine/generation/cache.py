"""Keys and values of several rows side by side: padded on the left, so that every row ends where the next token goes.

From one step to the next they are handed on as the runtime gave them: on the CPU arrays, on a device what it keeps
there. When rows join or leave they are copied, in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.generation.form import DecoderForm
from engine.runtime.kept import Kept
from engine.tensor import Tensor

__all__ = ["Cache", "empty_cache", "joined"]


@dataclass(slots=True)
class Cache:
    """The cache of some rows.

    Attributes:
        tensors: one for each of `DecoderForm.cache`, (rows, heads, tokens, width).
        lengths: how many of the last tokens are a row's own, int64 (rows,).
        wide: the mask of these rows, for more tokens than there are yet; None where it was not asked for.
    """

    tensors: Sequence[Tensor | Kept]
    lengths: NDArray[np.int64]
    wide: NDArray[np.int64] | None = field(default=None)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """How many tokens each row has room for."""
        return int(self.tensors[0].shape[2])

    def mask(self, tokens: int, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 for a token and 0 for padding once each row has so many more, int64 (rows, tokens).

        Padding stays where it is from one step to the next, so that a mask is made once and handed out in parts.

        Args:
            tokens: how many there are then, padding included.
            lengths: how many of them are a row's own.
        """
        if self.wide is None or self.wide.shape[1] < tokens:
            padding = (tokens - lengths)[:, None]
            self.wide = (np.arange(2 * tokens) >= padding).astype(np.int64)
        return self.wide[:, :tokens]


def empty_cache(form: DecoderForm, rows: int) -> Cache:
    """The cache of rows that have no token yet."""
    tensors: list[Tensor | Kept] = [np.zeros((rows, each.heads, 0, each.width), form.dtype) for each in form.cache]
    return Cache(tensors, np.zeros(rows, np.int64))


def joined(parts: Sequence[tuple[Cache, Sequence[int]]]) -> Cache:
    """Some rows of some caches as one cache, in this order, no longer than its longest row.

    Args:
        parts: caches, and which of their rows; at least one row in all.
    """
    lengths = np.concatenate([cache.lengths[list(rows)] for cache, rows in parts])
    longest = int(lengths.max())
    first, all_of_it = parts[0][0], list(parts[0][1]) == list(range(parts[0][0].rows))
    if len(parts) == 1 and all_of_it and longest == first.tokens:
        return first
    tensors: list[Tensor | Kept] = []
    for at in range(len(first.tensors)):
        arrays = [_array(cache.tensors[at]) for cache, _ in parts]
        _, heads, _, width = arrays[0].shape
        whole = np.empty((len(lengths), heads, longest, width), arrays[0].dtype)
        into = iter(whole)
        for (cache, rows), array in zip(parts, arrays, strict=True):
            kept = min(longest, cache.tokens)
            for row, place in zip(rows, into, strict=False):
                place[:, : longest - kept] = 0
                place[:, longest - kept :] = array[row, :, cache.tokens - kept :]
        tensors.append(whole)
    return Cache(tensors, lengths)


def _array(value: Tensor | Kept) -> Tensor:
    return value.array() if isinstance(value, Kept) else value
