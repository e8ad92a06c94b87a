"""Explanations of answers to rows: by the sum that the graph computes, or by running it, within a number of runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.explain.additive import Leaves
from engine.explain.reading import Form
from engine.explain.shapley import by_orders, by_subsets, subsets_fit
from engine.scheduler.aside import aside
from engine.servables.columns import Record
from engine.servables.scores import probabilities

__all__ = ["Explainer", "Explanation", "Matched", "match"]

Numbers = NDArray[np.float64]
Unit: TypeAlias = Literal["value", "probability", "margin"]
Method: TypeAlias = Literal["linear", "trees", "subsets", "orders"]

_RUNS = 4096
"""Rows that the model computes for one explanation."""
_CELLS = 1 << 26
"""Leaves times columns times background rows that are looked at for one explanation."""
_CLOSE = 1e-3


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the values of a row did.

    Attributes:
        method: how it was found out.
        unit: what the numbers are: the `value` itself, a `probability`, or a `margin`, of which a probability is made.
        base: the mean answer to the background rows.
        value: the answer; `base` and all values come to it.
        values: of each column, float64 (columns,).
        errors: their standard errors, 0 where they are exact.
    """

    method: Method
    unit: Unit
    base: float
    value: float
    values: Numbers
    errors: Numbers


@dataclass(frozen=True, slots=True)
class Matched:
    """A sum that was seen to be what the graph computes.

    Attributes:
        form: the sum.
        margin: whether probabilities are made of it.
        two: whether its only output is of the second of two classes, and the first has what is left of 1.
    """

    form: Form
    margin: bool
    two: bool


def match(form: Form, rows: Numbers, answers: Numbers) -> Matched | None:
    """How answers, float64 (n, outputs), come from what a sum says of the same rows; None where they do not."""
    raw = form.values(rows)
    sigmoids = np.asarray(probabilities(raw, "logits", multi_label=True), np.float64)
    totals = sigmoids.sum(axis=1, keepdims=True)
    if raw.shape == answers.shape:
        softmax = np.asarray(probabilities(raw, "logits"), np.float64)
        made = [(raw, False), (sigmoids, True), (softmax, True), (sigmoids / np.maximum(totals, 1e-30), True)]
        two = False
    elif raw.shape[1] == 1 and answers.shape[1] == 2:
        made = [(np.concatenate([1 - each, each], axis=1), margin) for each, margin in ((raw, False), (sigmoids, True))]
        two = True
    else:
        return None
    scale = max(1.0, float(np.abs(answers).max(initial=0.0)))
    for table, margin in made:
        if np.allclose(table, answers, atol=_CLOSE * scale, rtol=_CLOSE):
            return Matched(form, margin, two)
    return None


class Explainer:
    """Explains a model's answers.

    Args:
        names: of the columns.
        background: rows to compare with, a value for each column; at least one.
        run: what rows come to, float64 (n, outputs).
        numbers: rows as numbers, float64 (n, columns); for a sum alone.
        matched: the sum that the model is; None where it is run.
        unit: of its answers.
    """

    def __init__(
        self,
        names: Sequence[str],
        background: Sequence[Record],
        run: Callable[[Sequence[Record]], Awaitable[Numbers]],
        numbers: Callable[[Sequence[Record]], Numbers],
        matched: Matched | None,
        unit: Literal["value", "probability"],
    ) -> None:
        self._names = tuple(names)
        self._background = tuple(background)
        self._run = run
        self._numbers = numbers
        self._matched = matched
        self._unit: Unit = unit

    async def explain(self, record: Record, output: int) -> Explanation:
        """What the values of a row did for one output."""
        if self._matched is not None:
            given = [record, *self._background]
            rows = await aside(len(given) * len(self._names), self._numbers, given)
            form = self._matched.form
            cells = form.low.size * len(self._background) if isinstance(form, Leaves) else 0
            if np.isfinite(rows).all() and cells <= _CELLS:
                return await asyncio.to_thread(self._by_sum, self._matched, rows, output)
        return await self._by_runs(record, output)

    def _by_sum(self, matched: Matched, rows: Numbers, output: int) -> Explanation:
        form = matched.form
        sign, column = (2 * output - 1, 0) if matched.two else (1, output)
        offset = 1.0 if matched.two and not output and not matched.margin else 0.0
        values = sign * form.attributions(rows[0], rows[1:])[column]
        answers = offset + sign * form.values(rows)[:, column]
        method: Method = "trees" if isinstance(form, Leaves) else "linear"
        unit: Unit = "margin" if matched.margin else self._unit
        return Explanation(method, unit, float(answers[1:].mean()), float(answers[0]), values, np.zeros(len(values)))

    async def _by_runs(self, record: Record, output: int) -> Explanation:
        columns, count = len(self._names), len(self._background)

        async def play(own: NDArray[np.bool_], rows: NDArray[np.int64]) -> Numbers:
            mixed = [
                {
                    name: (record if mine else self._background[row]).get(name)
                    for name, mine in zip(self._names, each, strict=True)
                }
                for each, row in zip(own.tolist(), rows.tolist(), strict=True)
            ]
            return (await self._run(mixed))[:, output]

        if subsets_fit(columns, count, _RUNS):
            method: Method = "subsets"
            found = await by_subsets(play, columns, count)
        else:
            method = "orders"
            found = await by_orders(play, columns, count, _RUNS, np.random.default_rng(columns))
        value = float((await self._run([record]))[0, output])
        return Explanation(method, self._unit, found.base, value, found.values, found.errors)
