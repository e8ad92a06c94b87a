"""How the next tokens of several rows are chosen: all rows at once, each with chances of its own.

A row's choice depends on its logits, its settings and its own generator alone, whoever is computed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chances", "Chooser", "Scored", "scores"]

_COLDEST = 1e-4
"""Below it the most probable token is all that would ever come, and dividing by it overflows."""
_CANDIDATES = 256
"""So many of the most probable tokens are looked at first: nearly always they come to `top_p` together."""

Logits: TypeAlias = NDArray[np.float32]
Scored: TypeAlias = tuple[float, tuple[tuple[int, float], ...]]
"""The log-probability of the chosen token, and those of the most probable ones, by id."""


@dataclass(slots=True)
class Chances:
    """How one row chooses.

    Attributes:
        temperature: 0 takes the most probable token.
        top_p: only the most probable ones that come to this share together.
        top_k: only so many of the most probable ones; 0 means all.
        frequency_penalty: taken from a token's logit for each time that it was made.
        presence_penalty: taken once from it.
        random: draws for this row alone.
        made: how often each token was made, float32 (vocabulary,); None without penalties.
    """

    temperature: float
    top_p: float
    top_k: int
    frequency_penalty: float
    presence_penalty: float
    random: np.random.Generator
    made: NDArray[np.float32] | None = field(default=None)

    def note(self, token: int) -> None:
        """A token was made."""
        if self.made is not None:
            self.made[token] += 1


class Chooser:
    """Chooses for the same rows step after step: what their settings come to is worked out once.

    Args:
        chances: of each row.
    """

    def __init__(self, chances: Sequence[Chances]) -> None:
        self._rows = np.arange(len(chances))
        self._penalised = [(row, each) for row, each in enumerate(chances) if each.made is not None]
        drawn = [row for row, each in enumerate(chances) if each.temperature >= _COLDEST]
        narrow = [row for row in drawn if chances[row].top_k or chances[row].top_p < 1]
        plain = [row for row in drawn if row not in set(narrow)]
        self._plain = _Drawn.of(plain, chances) if plain else None
        self._narrow = _Drawn.of(narrow, chances) if narrow else None

    def choose(self, logits: Logits) -> NDArray[np.int64]:
        """The next token of each row; it counts as made.

        Args:
            logits: float32 (rows, vocabulary), changed here; what is forbidden is -inf.

        Returns:
            Token ids, int64 (rows,); -1 where the logits hold no number to choose by.
        """
        for row, each in self._penalised:
            if each.made is not None:
                logits[row] -= each.frequency_penalty * each.made + each.presence_penalty * (each.made > 0)
        tokens = np.asarray(logits.argmax(axis=1), np.int64)
        sound = np.isfinite(logits[self._rows, tokens])
        wrong = None if sound.all() else ~sound
        if wrong is not None:
            logits[wrong] = 0.0
        if self._plain is not None:
            tokens[self._plain.rows] = _draw(logits, self._plain)
        if self._narrow is not None:
            tokens[self._narrow.rows] = _draw_narrow(logits, self._narrow)
        if wrong is not None:
            tokens[wrong] = -1
        for row, each in self._penalised:
            each.note(int(tokens[row]))
        return tokens


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Rows that draw, and by what settings: arrays with one number for each of them."""

    rows: NDArray[np.int64]
    temperature: NDArray[np.float64]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float64]
    random: Sequence[np.random.Generator]

    @classmethod
    def of(cls, rows: Sequence[int], chances: Sequence[Chances]) -> _Drawn:
        """Of these rows of all."""
        some = [chances[row] for row in rows]
        return cls(
            np.array(rows, np.int64),
            np.array([each.temperature for each in some]),
            np.array([each.top_k for each in some]),
            np.array([each.top_p for each in some]),
            [each.random for each in some],
        )

    def points(self) -> NDArray[np.float64]:
        """Where each row draws, from 0 to 1, by its own generator."""
        return np.array([each.random() for each in self.random])


def scores(logits: Logits, tokens: NDArray[np.int64], tops: Sequence[int | None]) -> list[Scored | None]:
    """Log-probabilities of the chosen tokens, by the model's own logits, for the rows that want them.

    Args:
        logits: float32 (rows, vocabulary), as the model gave them.
        tokens: the chosen ones, int64 (rows,).
        tops: of how many of the most probable tokens each row wants to be told; None wants nothing.
    """
    found: list[Scored | None] = []
    for row, top in enumerate(tops):
        if top is None:
            found.append(None)
            continue
        shifted = logits[row] - logits[row].max()
        told = shifted - np.log(np.exp(shifted).sum(dtype=np.float64))
        best: list[int] = []
        if top:
            some = np.argpartition(-told, min(top, len(told) - 1))[:top]
            best = some[np.argsort(-told[some], kind="stable")].tolist()
        found.append((float(told[tokens[row]]), tuple((token, float(told[token])) for token in best)))
    return found


def _probabilities(logits: Logits, drawn: _Drawn) -> NDArray[np.float64]:
    """Shares that come to 1 in each row that draws, float64 (rows, vocabulary)."""
    mine = logits[drawn.rows]
    scaled = (mine - mine.max(axis=1, keepdims=True)) / drawn.temperature[:, None]
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return np.asarray(scaled, np.float64)


def _draw(logits: Logits, drawn: _Drawn) -> NDArray[np.int64]:
    """One token of each row, as probable as its share."""
    shares = _probabilities(logits, drawn)
    ends = shares.cumsum(axis=1)
    points = drawn.points() * ends[:, -1]
    columns = (ends <= points[:, None]).sum(axis=1)
    return np.asarray(np.minimum(columns, _last_possible(shares)), np.int64)


def _last_possible(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """The last column of each row that has a share at all: rounding never chooses what is forbidden."""
    width = shares.shape[1]
    return np.asarray(width - 1 - (shares[:, ::-1] > 0).argmax(axis=1), np.int64)


def _draw_narrow(logits: Logits, drawn: _Drawn) -> NDArray[np.int64]:
    """One token of each row, of the few that its `top_k` and `top_p` leave."""
    shares, points = _probabilities(logits, drawn), drawn.points()
    top_k, top_p = drawn.top_k, drawn.top_p
    few, width = _most_probable(shares, min(_CANDIDATES, shares.shape[1])), shares.shape[1]
    ends = np.take_along_axis(shares, few, axis=1).cumsum(axis=1)
    tokens = few[np.arange(len(few)), _places(ends, top_k, top_p, points)]
    short = (few.shape[1] < width) & ((top_k > few.shape[1]) | ((top_k == 0) & (ends[:, -1] < top_p)))
    if short.any():
        every = _most_probable(shares[short], width)
        ends = np.take_along_axis(shares[short], every, axis=1).cumsum(axis=1)
        tokens[short] = every[np.arange(len(every)), _places(ends, top_k[short], top_p[short], points[short])]
    return tokens


def _most_probable(shares: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The most probable tokens of each row, best first."""
    if count == shares.shape[1]:
        return np.asarray(np.argsort(-shares, axis=1), np.int64)
    some = np.argpartition(shares, -count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(shares, some, axis=1), axis=1)
    return np.asarray(np.take_along_axis(some, order, axis=1), np.int64)


def _places(
    ends: NDArray[np.float64], top_k: NDArray[np.int64], top_p: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Which of the candidates is drawn in each row.

    Args:
        ends: their shares, best first, added up, (rows, candidates).
        top_k: how many of them may come; 0 means all.
        top_p: to what share they may come together, of what `top_k` leaves.
        points: where it is drawn, from 0 to 1.
    """
    rows, columns = np.arange(len(ends)), np.arange(ends.shape[1])
    limits = np.where(top_k > 0, np.minimum(top_k, ends.shape[1]), ends.shape[1])
    totals = ends[rows, limits - 1]
    targets = np.minimum(np.where(top_k > 0, top_p * totals, top_p), totals)
    kept = np.minimum((ends < targets[:, None]).sum(axis=1) + 1, limits)
    drawn = points * ends[rows, kept - 1]
    return np.asarray(((ends <= drawn[:, None]) & (columns < kept[:, None] - 1)).sum(axis=1), np.int64)
