"""What a filter and an order of runs are in SQL; a missing value compares as false, so NOT shows what lacks it."""

from __future__ import annotations

import json
import operator
from datetime import datetime
from typing import Any as Whatever

from sqlalchemy import ColumnElement, Row, Text, and_, cast, false, func, literal_column, not_, or_
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.filter import All, Any, Compare, Not, Order, Term
from orchestrator.store.journal import _runs

__all__ = ["after_cursor", "condition_of", "cursor_of", "order_of"]

_COMPARE = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def condition_of(term: Term, dialect: str) -> ColumnElement[bool]:
    """The condition that a filter is.

    Args:
        term: the filter's tree.
        dialect: `sqlite` or `postgresql`.
    """
    match term:
        case All():
            return and_(*(condition_of(each, dialect) for each in term.terms))
        case Any():
            return or_(*(condition_of(each, dialect) for each in term.terms))
        case Not():
            return not_(condition_of(term.term, dialect))
        case Compare():
            return _compare(term, dialect)


def order_of(order: Order) -> tuple[ColumnElement[Whatever], ...]:
    """What to order by."""
    if order.field == "name":
        return (_runs.c.name.desc() if order.descending else _runs.c.name.asc(),)
    by = _sortable(order)
    return (by.desc(), _runs.c.name.desc()) if order.descending else (by.asc(), _runs.c.name.asc())


def cursor_of(order: Order, row: Row[Whatever]) -> str:
    """Where a row stands in that order."""
    value = None if order.field == "name" else getattr(row, order.field)
    return json.dumps([value if value is not None else "", row.name])


def after_cursor(order: Order, cursor: str) -> ColumnElement[bool]:
    """What comes behind a row in that order."""
    value, name = json.loads(cursor)
    behind: ColumnElement[bool] = _runs.c.name < name if order.descending else _runs.c.name > name
    if order.field == "name":
        return behind
    by = _sortable(order)
    beyond: ColumnElement[bool] = by < value if order.descending else by > value
    return or_(beyond, and_(by == value, behind))


def _sortable(order: Order) -> ColumnElement[Whatever]:
    column: ColumnElement[Whatever] = _runs.c[order.field]
    return func.coalesce(column, "") if order.field == "end_time" else column


def _compare(term: Compare, dialect: str) -> ColumnElement[bool]:
    if term.field == "state":  # a known one: it stands in the text, so that indexes made for it are used
        is_state: ColumnElement[bool] = _runs.c.state == literal_column(f"'{term.value}'")
        return is_state if term.comparator == "=" else not_(is_state)
    field = _field(term, dialect)
    if term.comparator == ":":
        return field.is_not(None)
    value = term.value.isoformat() if isinstance(term.value, datetime) else term.value
    if term.comparator == "!=":
        return not_(_or_false(field == value))
    compared: ColumnElement[bool] = _COMPARE[term.comparator](field, value)
    return _or_false(compared)


def _or_false(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return func.coalesce(condition, false())


def _field(term: Compare, dialect: str) -> ColumnElement[Whatever]:
    if term.field == "labels":
        return _inside(_runs.c.labels, term.key, dialect)
    if term.field == "requester":
        return _inside(_runs.c.requester, "subject", dialect)
    return _runs.c[term.field]


def _inside(column: ColumnElement[Whatever], key: str, dialect: str) -> ColumnElement[Whatever]:
    """A text in a column that holds JSON."""
    if dialect == "postgresql":
        inside: ColumnElement[Whatever] = cast(cast(column, Text), JSONB)[key].astext
        return inside
    return func.json_extract(column, f'$."{key}"')
