"""Prompts that are being read: short ones together, a long one in pieces, so that others go on between two of these."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.generation.cache import empty_cache
from engine.generation.decoder import Decoder
from engine.generation.rows import Rows
from engine.generation.sequence import SequenceState

__all__ = ["Prefill", "next_prompts"]


class Prefill:
    """Some prompts on their way into the cache.

    Args:
        sequences: whose prompts; more than one only where they are read at once.
        decoder: the model.
        budget: the most tokens that are read at once.
        ends: whether a token ends a text, bool (vocabulary,).
    """

    def __init__(
        self, sequences: Sequence[SequenceState], decoder: Decoder, budget: int, ends: NDArray[np.bool_]
    ) -> None:
        self.sequences = sequences
        self._decoder = decoder
        self._budget = budget
        self._ends = ends
        self._cache = empty_cache(decoder.form, len(sequences))
        self._at = 0

    def read(self) -> tuple[Rows, NDArray[np.float32]] | None:
        """Read the next piece; the answers and the logits of their first tokens, once all is read.

        Raises:
            Exception: whatever ends the run; it is the end of these prompts alone.
        """
        prompts = [each.prompt for each in self.sequences]
        if len(prompts) > 1:
            self._cache, logits = self._decoder.begin(prompts)
        else:
            piece = np.array([prompts[0][self._at : self._at + self._budget]], np.int64)
            self._cache, logits = self._decoder.step(self._cache, piece)
            self._at += piece.shape[1]
            if self._at < len(prompts[0]):
                return None
        return Rows.begun(self.sequences, self._cache, self._ends, self._decoder), logits


def next_prompts(admitted: deque[SequenceState], budget: int) -> list[SequenceState]:
    """Take a long prompt, or as many short ones as are read at once."""
    group = [admitted.popleft()]
    longest = len(group[0].prompt)
    while admitted:
        longest = max(longest, len(admitted[0].prompt))
        if (len(group) + 1) * longest > budget:
            break
        group.append(admitted.popleft())
    return group
