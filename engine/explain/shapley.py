"""Shapley values of any model by running it: all subsets of few columns, some orders of many.

The estimate from orders, each taken forwards and backwards, is that of Castro et al., "Polynomial calculation of the
Shapley value based on sampling" (2009), with the pairs of Mitchell et al., "Sampling Permutations for Shapley Value
Estimation" (2022). Its error is the standard error over the pairs.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Play", "by_orders", "by_subsets", "subsets_fit"]

Numbers = NDArray[np.float64]
Play: TypeAlias = Callable[[NDArray[np.bool_], NDArray[np.int64]], Awaitable[Numbers]]
"""What rows come to, float64 (n,): which columns have the row's own value, bool (n, columns), and from which background
row the others are, int64 (n,)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Shapley values.

    Attributes:
        values: one a column, float64 (columns,).
        errors: their standard errors; zeros where they are exact.
        base: the mean answer to the background rows that were compared with.
    """

    values: Numbers
    errors: Numbers
    base: float


def subsets_fit(columns: int, background: int, runs: int) -> bool:
    """Whether all subsets of so many columns are within so many runs."""
    return columns < 31 and (1 << columns) * background <= runs


async def by_subsets(play: Play, columns: int, background: int) -> Estimate:
    """Exact values, from a run for each subset of the columns and each background row."""
    subsets = (np.arange(1 << columns)[:, None] >> np.arange(columns)) & 1 == 1
    played = np.repeat(subsets, background, axis=0)
    rows = np.tile(np.arange(background, dtype=np.int64), len(subsets))
    worth = (await play(played, rows)).reshape(len(subsets), background).mean(axis=1)
    sizes = subsets.sum(axis=1)
    shares = np.array(
        [math.factorial(size) * math.factorial(columns - size - 1) / math.factorial(columns) for size in range(columns)]
    )
    values = np.zeros(columns)
    for column in range(columns):
        without = np.flatnonzero(~subsets[:, column])
        values[column] = (shares[sizes[without]] * (worth[without | (1 << column)] - worth[without])).sum()
    return Estimate(values, np.zeros(columns), float(worth[0]))


async def by_orders(play: Play, columns: int, background: int, runs: int, random: np.random.Generator) -> Estimate:
    """Estimated values, from pairs of orders in which the columns come to play, each against one background row.

    Every background row has as many pairs as every other; where the runs do not suffice for that, some are left out.
    """
    pairs = max(2, runs // (2 * (columns + 1)))
    if pairs >= background:
        against = np.tile(np.arange(background, dtype=np.int64), pairs // background)
    else:
        against = random.choice(background, pairs, replace=False).astype(np.int64)
    forwards = np.array([random.permutation(columns) for _ in against])
    orders = np.stack([forwards, forwards[:, ::-1]], axis=1).reshape(-1, columns)
    ranks = np.argsort(orders, axis=1)
    played = ranks[:, None, :] < np.arange(columns + 1)[None, :, None]
    rows = np.repeat(against, 2 * (columns + 1))
    worth = (await play(played.reshape(-1, columns), rows)).reshape(len(orders), columns + 1)
    steps = np.take_along_axis(np.diff(worth, axis=1), ranks, axis=1)
    each = steps.reshape(-1, 2, columns).mean(axis=1)
    errors = each.std(axis=0, ddof=1) / math.sqrt(len(each)) if len(each) > 1 else np.zeros(columns)
    return Estimate(each.mean(axis=0), errors, float(worth[:, 0].mean()))
