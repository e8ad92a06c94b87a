"""Queries: which rows answer a question, and how they are put together into series."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analytics.buckets import Span
from analytics.cells import Cell
from analytics.dimensions import DIMENSIONS, cube_for
from analytics.errors import QueryTooLargeError
from analytics.filters import Filter
from analytics.metrics import Metric, metrics_named
from analytics.ports import RollupRows, Row
from analytics.reading import Stop, long_read
from mesh.db import Database, Transaction
from mesh.errors import InvalidError

__all__ = ["Answer", "Queries", "Question", "Series", "order_of"]

_MAX_ROWS = 200_000
"""Rows that one query may read: a second of a core."""
_MAX_POINTS = 100_000
_AT_ONCE = 2
"""Queries that compute at the same time; the others wait, so that counting goes on beside them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        tenant: whose figures, by id.
        span: which buckets.
        metrics: what to answer with.
        group_by: dimensions to keep apart.
        filter: which series are wanted.
        order: by which metric series are ordered.
        descending: true for the largest first.
        limit: at most so many series.
        points: false where only totals are wanted.
    """

    tenant: str
    span: Span
    metrics: Sequence[Metric]
    group_by: tuple[str, ...]
    filter: Filter
    order: Metric
    descending: bool
    limit: int
    points: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """One combination of what was grouped by: its buckets, oldest first, and all of them together."""

    values: tuple[str, ...]
    points: Sequence[tuple[int, Cell]]
    total: Cell


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question came to; `total` is of all series, those beyond the limit included."""

    series: Sequence[Series]
    total: Cell
    omitted: int


def order_of(text: str) -> tuple[Metric, bool]:
    """The metric that `order_by` names, and whether the largest comes first.

    Raises:
        InvalidError: it names no metric.
    """
    name, _, direction = (text.strip() or "calls desc").partition(" ")
    if direction.strip() not in ("", "asc", "desc"):
        raise InvalidError("order_by", "must be a metric, and ` desc` for the largest first")
    return metrics_named([name], "order_by")[0], direction.strip() == "desc"


class Queries:
    """Answers questions.

    Args:
        database: the service's own.
        rows: its statements.
    """

    def __init__(self, database: Database, rows: RollupRows) -> None:
        self._database = database
        self._rows = rows
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def answer(self, question: Question) -> Answer:
        """Answer a question.

        Raises:
            QueryTooLargeError: it would read or return too much.
        """
        async with self._turns:
            return await long_read(self._database, lambda transaction, stop: self._answer(transaction, stop, question))

    def _answer(self, transaction: Transaction, stop: Stop, question: Question) -> Answer:
        wanted = {*question.group_by, *question.filter.dimensions}
        cube = cube_for(wanted)
        places = [DIMENSIONS.index(dimension) for dimension in question.group_by]
        groups = {
            series.series_id: tuple(series.values[at] for at in places)
            for series in self._rows.series(transaction, question.tenant, cube)
            if question.filter.holds(series.values)
        }
        if not groups:
            return Answer((), _empty(), 0)
        needs = {need for metric in (*question.metrics, question.order) for need in metric.needs} | {"calls"}
        filtered = list(groups) if question.filter.dimensions and len(groups) <= 500 else None
        rows = self._rows.read(transaction, question.tenant, cube, question.span, filtered, needs, _MAX_ROWS)
        if rows is None:
            raise _too_large(f"the query would read more than {_MAX_ROWS} rows")
        series, total = _put_together(stop.watched(rows), groups, points=question.points)
        series.sort(key=lambda one: _rank(question, one))
        kept = series[: question.limit]
        if sum(len(one.points) for one in kept) > _MAX_POINTS:
            raise _too_large(f"the answer would hold more than {_MAX_POINTS} points")
        return Answer(kept, total, len(series) - len(kept))


def _put_together(
    rows: Iterable[Row], groups: dict[int, tuple[str, ...]], *, points: bool
) -> tuple[list[Series], Cell]:
    """Series with their points and totals, and the total of all.

    Cells of rows are handed on as they are where nothing is to be merged into them.
    """
    buckets: dict[tuple[str, ...], dict[int, Cell]] = {}
    totals: dict[tuple[str, ...], Cell] = {}
    for bucket, series_id, cell in rows:
        values = groups.get(series_id)
        if values is None:
            continue
        if values not in totals:
            totals[values] = _empty()
        totals[values].merge(cell)
        if points:
            own = buckets.setdefault(values, {})
            if bucket in own:
                own[bucket].merge(cell)
            else:
                own[bucket] = cell
    total = _empty()
    for cell in totals.values():
        total.merge(cell)
    return [Series(v, sorted(buckets.get(v, {}).items()), cell) for v, cell in totals.items()], total


def _empty() -> Cell:
    return Cell()


def _rank(question: Question, series: Series) -> tuple[float, tuple[str, ...]]:
    """Where a series stands; those without a value come last, equal ones by name."""
    value = question.order.value(series.total)
    if value is None:
        return (float("inf"), series.values)
    return (-value if question.descending else value, series.values)


def _too_large(what: str) -> QueryTooLargeError:
    return QueryTooLargeError(
        f"{what}; ask for a shorter range, a coarser granularity, fewer dimensions, or filter", limit=_MAX_ROWS
    )
