"""Models that are sums, linear ones and ensembles of trees: their Shapley values without running them.

For a tree each leaf is a box, and worth something only to rows inside of it. Of two rows, its game has a closed form;
see Laberge and Pequignot, "Understanding Interventional TreeSHAP" (2022). The variant that needs no background rows
(Lundberg et al., "From Local Explanations to Global Understanding", 2020) wants to know how many training rows went
each way, which exporters do not write.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Leaves", "Linear"]

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """A weighted sum.

    Attributes:
        weights: float64 (outputs, columns).
        constant: float64 (outputs,).
    """

    weights: Numbers
    constant: Numbers

    def values(self, rows: Numbers) -> Numbers:
        """What rows come to, float64 (n, outputs)."""
        return np.asarray(rows @ self.weights.T + self.constant)

    def attributions(self, row: Numbers, background: Numbers) -> Numbers:
        """Shapley values, float64 (outputs, columns), of a row against the mean of the background rows."""
        return np.asarray(self.weights * (row - background.mean(axis=0)))


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaves of all trees: a row is in one where each value is above `low` and not above `high`.

    Attributes:
        low: float64 (leaves, columns).
        high: as above.
        worth: float64 (leaves, outputs).
        constant: float64 (outputs,).
    """

    low: Numbers
    high: Numbers
    worth: Numbers
    constant: Numbers

    def values(self, rows: Numbers) -> Numbers:
        """What rows come to, float64 (n, outputs)."""
        inside = [self._holds(row).all(axis=1) for row in rows]
        return np.asarray(np.array(inside, np.float64).reshape(len(rows), -1) @ self.worth + self.constant)

    def attributions(self, row: Numbers, background: Numbers) -> Numbers:
        """Shapley values, float64 (outputs, columns), of a row against each of the background rows, averaged."""
        total = np.zeros((self.worth.shape[1], row.shape[0]))
        logs = _logs_of_factorials(row.shape[0] + 1)

        def share(first: NDArray[np.int64], last: NDArray[np.int64]) -> Numbers:
            """First! last! / (first + last + 1)!: in how many orders, of all, a column comes just between the two."""
            return np.asarray(np.exp(logs[first] + logs[last] - logs[first + last + 1])[:, None])

        own = self._holds(row)
        for other in background:
            theirs = self._holds(other)
            reached = (own | theirs).all(axis=1)
            needed, barred = own[reached] & ~theirs[reached], theirs[reached] & ~own[reached]
            for_, against = needed.sum(axis=1), barred.sum(axis=1)
            gain = np.where(needed, share(np.maximum(for_ - 1, 0), against), 0.0)
            loss = np.where(barred, share(for_, np.maximum(against - 1, 0)), 0.0)
            total += self.worth[reached].T @ (gain - loss)
        return np.asarray(total / len(background))

    def _holds(self, row: Numbers) -> NDArray[np.bool_]:
        """Which conditions of each leaf a row meets, (leaves, columns)."""
        met: NDArray[np.bool_] = (row > self.low) & (row <= self.high)
        return met


def _logs_of_factorials(most: int) -> Numbers:
    """Log 0!, log 1!, … log most!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
