"""Answers under way side by side: what their settings come to is worked out when one joins or leaves, not at each step.

A step then costs the same few array operations however many rows there are; only rows with a schema, with penalties or
with log-probabilities cost something each. What text the tokens make is the readers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, InferenceFailedError
from engine.generation.answer import Ending
from engine.generation.cache import Cache, Part, empty_cache
from engine.generation.decoder import Decoder
from engine.generation.outbox import StepResult
from engine.generation.sampling import Chooser, Scored, scores
from engine.generation.sequence import SequenceState

__all__ = ["Rows", "no_rows"]

_FAR = 1 << 62


class Rows:
    """Some answers and their cache, row by row.

    Args:
        sequences: the answers.
        cache: of them.
        ids: the token of each that comes next into the cache, int64 (rows,); nothing of meaning before the first.
        left: how many tokens each may still get as it joins, int64 (rows,).
        ends: whether a token ends a text, bool (vocabulary + 1,); the last one is what a row without a token has.
        decoder: computes them.
    """

    def __init__(
        self,
        sequences: Sequence[SequenceState],
        cache: Cache,
        ids: NDArray[np.int64],
        left: NDArray[np.int64],
        ends: NDArray[np.bool_],
        decoder: Decoder,
    ) -> None:
        self.sequences = tuple(sequences)
        self._decoder = decoder
        self.cache = cache
        self._ids = ids
        self._left = left
        self._made = 0
        self._soonest = int(left.min(initial=_FAR))
        self._ends = ends
        self._outboxes = [each.outbox for each in sequences]
        self.loops = frozenset(each.loop for each in self._outboxes)
        self._chooser = Chooser([each.chances for each in sequences])
        self._constraints = [
            (row, each.constraint) for row, each in enumerate(sequences) if each.constraint is not None
        ]
        self._told = [row for row, each in enumerate(sequences) if each.top_logprobs is not None]
        self._tops = [sequences[row].top_logprobs for row in self._told]

    @classmethod
    def begun(cls, sequences: Sequence[SequenceState], cache: Cache, ends: NDArray[np.bool_], decoder: Decoder) -> Rows:
        """Answers that have no token yet; the cache is of their prompts."""
        left = np.array([each.longest for each in sequences], np.int64)
        return cls(sequences, cache, np.zeros(len(sequences), np.int64), left, ends, decoder)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def are_constrained(self) -> bool:
        """Whether there is something to `look_ahead` for."""
        return bool(self._constraints)

    def look_ahead(self) -> None:
        """Find out what cannot come next, for rows with a schema; beside the step whose logits it is for."""
        for _, constraint in self._constraints:
            constraint.look_ahead()

    def step(self) -> NDArray[np.float32]:
        """Read the last token of each row; the logits of the next one."""
        self.cache, logits = self._decoder.step(self.cache, self._ids[:, None])
        return logits

    def advance(self, logits: NDArray[np.float32], at: float) -> StepResult:
        """Choose the next token of each.

        Args:
            logits: float32 (rows, vocabulary), changed here.
            at: now, seconds of `time.perf_counter`.
        """
        told = logits[self._told] if self._told else None
        failed = self._forbid(logits) if self._constraints else {}
        tokens = self._ids = self._chooser.choose(logits)
        self._made += 1
        ends: Mapping[int, Ending | EngineError] = {}
        if self._made >= self._soonest or self._constraints or self._ends[tokens].any():
            ends = self._ended(tokens, failed)
        scored = self._scored(told, tokens) if told is not None else {}
        return StepResult(self._outboxes, tokens.tolist(), at, scored, ends)

    def part(self, rows: Sequence[int]) -> Rows:
        """Some of them, at least one."""
        return Rows(
            [self.sequences[row] for row in rows],
            self._decoder.join([Part(self.cache, rows)]),
            self._ids[list(rows)],
            self._left[list(rows)] - self._made,
            self._ends,
            self._decoder,
        )

    def and_those(self, others: Rows) -> Rows:
        """These and others behind them."""
        if not self.sequences:
            return others
        return Rows(
            (*self.sequences, *others.sequences),
            self._decoder.join([Part(each.cache, range(len(each))) for each in (self, others)]),
            np.concatenate([self._ids, others._ids]),
            np.concatenate([self._left - self._made, others._left - others._made]),
            self._ends,
            self._decoder,
        )

    def _forbid(self, logits: NDArray[np.float32]) -> dict[int, EngineError]:
        """Rule out what schemas do not allow; by row, what went wrong there."""
        failed = {}
        for row, constraint in self._constraints:
            try:
                constraint.forbid(logits[row])
            except EngineError as error:
                failed[row] = error
        return failed

    def _ended(self, tokens: NDArray[np.int64], failed: Mapping[int, EngineError]) -> dict[int, Ending | EngineError]:
        """Which rows go no further, and why."""
        ends: dict[int, Ending | EngineError] = {}
        over = self._ends[tokens] | (self._left <= self._made) | (tokens < 0)
        for row in np.flatnonzero(over).tolist():
            if tokens[row] < 0:
                ends[row] = InferenceFailedError("the model gave logits that are no numbers")
            else:
                ends[row] = "end" if self._ends[tokens[row]] else "length"
        for row, constraint in self._constraints:
            if row in failed or tokens[row] < 0:
                continue
            try:
                if constraint.take(int(tokens[row])) and ends.get(row) != "end":
                    ends[row] = "complete"
            except EngineError as error:
                ends[row] = error
        return {**ends, **failed}

    def _scored(self, told: NDArray[np.float32], tokens: NDArray[np.int64]) -> dict[int, Scored]:
        found = scores(told, tokens[self._told], self._tops)
        return {row: each for row, each in zip(self._told, found, strict=True) if each is not None}


def no_rows(decoder: Decoder) -> Rows:
    """None at all."""
    nothing, ends = np.zeros(0, np.int64), np.zeros(decoder.form.vocabulary + 1, bool)
    return Rows([], empty_cache(decoder.form, 0), nothing, nothing, ends, decoder)
