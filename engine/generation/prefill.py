"""Prompts that are being read: short ones together, a long one in pieces, so that others go on between two of these.

What a prompt has in common with an earlier one of its owner is not read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.generation.cache import Cache, Part, empty_cache
from engine.generation.decoder import Decoder
from engine.generation.prefixes import Prefix, Prefixes
from engine.generation.rows import Rows
from engine.generation.sequence import SequenceState

__all__ = ["Prefill", "next_prompts"]


class Prefill:
    """Some prompts on their way into the cache.

    Args:
        prompts: whose they are, and what each begins with that was read before: all with something, or all with
            nothing. More than one only where they are read at once.
        prefixes: where those that were read are kept.
        decoder: the model.
        budget: the most tokens that are read at once.
        ends: as `engine.generation.rows.Rows` has it.
    """

    def __init__(
        self,
        prompts: Sequence[tuple[SequenceState, Prefix]],
        prefixes: Prefixes,
        decoder: Decoder,
        budget: int,
        ends: NDArray[np.bool_],
    ) -> None:
        self.sequences = [sequence for sequence, _ in prompts]
        self._found = [prefix for _, prefix in prompts]
        self._prefixes = prefixes
        self._decoder = decoder
        self._budget = budget
        self._ends = ends
        self._rest = max(_rest(*each) for each in prompts)
        self._cache: Cache | None = None
        self._at = 0

    @property
    def shared(self) -> list[int]:
        """How many tokens of each prompt are not read again: of several, all that makes what is read as long."""
        return [max(0, len(each.prompt) - self._rest) for each in self.sequences]

    def read(self) -> tuple[Rows, NDArray[np.float32]] | None:
        """Read the next piece; the answers and the logits of their first tokens, once all is read.

        Raises:
            Exception: whatever ends the run; it is the end of these prompts alone.
        """
        if self._found[0].cache is None and len(self.sequences) > 1:
            self._cache, logits = self._decoder.begin([each.prompt for each in self.sequences])
        else:
            cache = self._begun() if self._cache is None else self._cache
            ids = np.array([each.prompt[-self._rest :] for each in self.sequences], np.int64)
            piece = ids[:, self._at : self._at + self._budget]
            self._cache, logits = self._decoder.step(cache, piece)
            self._at += piece.shape[1]
            if self._at < self._rest:
                return None
        self._keep(self._cache)
        return Rows.begun(self.sequences, self._cache, self._ends, self._decoder), logits

    def _begun(self) -> Cache:
        """What was read before of each prompt."""
        parts = [
            Part(prefix.cache, [0], prefix.cache.tokens - shared)
            for prefix, shared in zip(self._found, self.shared, strict=True)
            if prefix.cache is not None
        ]
        return self._decoder.join(parts) if parts else empty_cache(self._decoder.form, 1)

    def _keep(self, cache: Cache) -> None:
        for row, each in enumerate(self.sequences):
            if self._prefixes.wants(each.terms.owner, each.prompt):
                self._prefixes.keep(each.terms.owner, each.prompt, self._decoder.join([Part(cache, [row])]))


def next_prompts(admitted: deque[SequenceState], prefixes: Prefixes, budget: int) -> list[tuple[SequenceState, Prefix]]:
    """Take a long prompt, or as many short ones as are read at once; each with what it begins with that is kept."""
    group: list[tuple[SequenceState, Prefix]] = []
    while admitted:
        come = (admitted[0], prefixes.find(admitted[0].terms.owner, admitted[0].prompt))
        if group and not _go_together([*group, come], budget):
            break
        admitted.popleft()
        group.append(come)
    return group


def _go_together(group: Sequence[tuple[SequenceState, Prefix]], budget: int) -> bool:
    """Whether prompts can be read at once: all whole, or all from within what was read before of them."""
    longest = max(_rest(*each) for each in group)
    begun = [prefix.cache is not None for _, prefix in group]
    alike = not any(begun) or (all(begun) and all(len(sequence.prompt) > longest for sequence, _ in group))
    return alike and len(group) * longest <= budget


def _rest(sequence: SequenceState, prefix: Prefix) -> int:
    """How many tokens of a prompt are left to read."""
    return len(sequence.prompt) - prefix.tokens
