"""Keys and values of several rows side by side: padded on the left, so that every row ends where the next token goes.

From one step to the next they are handed on as the runtime gave them: on the CPU arrays, on a device what it keeps
there. When rows join or leave they are copied: here in memory, on a device by `engine.generation.device_cache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.generation.form import DecoderForm
from engine.runtime.kept import Kept
from engine.tensor import Tensor

__all__ = ["Cache", "Part", "empty_cache", "joined"]


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


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a cache that go into another one.

    Attributes:
        cache: which one.
        rows: which of its rows, in their order.
        drop: how many of the last tokens of each are left behind.
    """

    cache: Cache
    rows: Sequence[int]
    drop: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens of each row it has, int64 (rows,)."""
        return self.cache.lengths[list(self.rows)] - self.drop

    @property
    def is_all(self) -> bool:
        """Whether it is the whole cache as it is, with no column of padding alone."""
        every = not self.drop and list(self.rows) == list(range(self.cache.rows))
        return every and int(self.cache.lengths.max(initial=0)) == self.cache.tokens

    def columns(self, longest: int) -> tuple[int, int, int]:
        """Where to cut so that each row comes to `longest` tokens: padding to put before, first column, end."""
        end = self.cache.tokens - self.drop
        begin = max(0, end - longest)
        return longest - (end - begin), begin, end


def joined(parts: Sequence[Part]) -> Cache:
    """Parts of caches in memory as one, in this order, no longer than the longest row; at least one row in all."""
    if len(parts) == 1 and parts[0].is_all:
        return parts[0].cache
    lengths = np.concatenate([part.lengths for part in parts])
    longest = int(lengths.max())
    tensors: list[Tensor | Kept] = []
    for at in range(len(parts[0].cache.tensors)):
        arrays = [_array(part.cache.tensors[at]) for part in parts]
        _, heads, _, width = arrays[0].shape
        whole = np.empty((len(lengths), heads, longest, width), arrays[0].dtype)
        into = iter(whole)
        for part, array in zip(parts, arrays, strict=True):
            padding, begin, end = part.columns(longest)
            for row, place in zip(part.rows, into, strict=False):
                place[:, :padding] = 0
                place[:, padding:] = array[row, :, begin:end]
        tensors.append(whole)
    return Cache(tensors, lengths)


def _array(value: Tensor | Kept) -> Tensor:
    return value.array() if isinstance(value, Kept) else value
