"""The SQL of rollups: what each series came to in each bucket, and how far the records have been counted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    column,
    delete,
    func,
    select,
    table,
    update,
)
from sqlalchemy import (
    Row as SqlRow,
)
from sqlalchemy.dialects import postgresql, sqlite

from analytics.buckets import Span
from analytics.cells import Cell
from analytics.dimensions import DIMENSIONS
from analytics.ports import Group, Row, SeriesRow

__all__ = ["RollupStore"]

_CURSOR = "records"
_SUMS = Cell.sum_names()
_COUNTS = ("codes", "run_states")
_SKETCHES = ("latency", "run_latency", "principals")
_KEY = ("granularity", "tenant", "cube", "bucket", "series")
_CHUNK = 500
"""Values in one IN list: SQLite takes 32,766 variables, PostgreSQL 65,535, and shorter statements are compiled once."""

_cursors = table("cursors", column("name"), column("position"))
_series = table("series", *(column(name) for name in ("id", "tenant", "cube", *DIMENSIONS, "last_day")))
_rollups = table(
    "rollups",
    *(column(name) for name in (*_KEY, *_SUMS, *_COUNTS)),
    *(column(name, LargeBinary) for name in _SKETCHES),
)


class RollupStore:
    """Statements on a connection; each method runs inside the caller's transaction."""

    def position(self, connection: Connection) -> int:
        """The sequence of the last record that has been counted."""
        return int(connection.execute(select(_cursors.c.position).where(_cursors.c.name == _CURSOR)).scalar_one())

    def move(self, connection: Connection, before: int, after: int) -> bool:
        """Move the cursor on; false where it no longer stood at `before`."""
        here = (_cursors.c.name == _CURSOR, _cursors.c.position == before)
        moved = update(_cursors).where(*here).values(position=after).returning(_cursors.c.position)
        return connection.execute(moved).one_or_none() is not None

    def series(self, connection: Connection, tenant: str, cube: str) -> list[SeriesRow]:
        """Every series of a tenant's cube."""
        statement = select(_series.c.id, *(_series.c[name] for name in DIMENSIONS)).where(*_of(_series, tenant, cube))
        return [SeriesRow(row[0], tuple(row[1:])) for row in connection.execute(statement)]

    def series_id(
        self, connection: Connection, tenant: str, cube: str, values: tuple[str, ...], most: int, day: int
    ) -> int | None:
        """The id of a series; a new one is made while the cube has fewer than `most`, else None is returned."""
        named = dict(zip(DIMENSIONS, values, strict=True))
        same = (*_of(_series, tenant, cube), *(_series.c[name] == value for name, value in named.items()))
        found = connection.execute(select(_series.c.id).where(*same)).scalar_one_or_none()
        if found is not None:
            return int(found)
        number = connection.execute(
            select(func.count()).select_from(_series).where(*_of(_series, tenant, cube))
        ).scalar_one()
        if number >= most:
            return None
        row = {"tenant": tenant, "cube": cube, **named, "last_day": day}
        return int(connection.execute(_insert(connection, _series).values(row).returning(_series.c.id)).scalar_one())

    def touch(self, connection: Connection, series_ids: Collection[int], day: int) -> None:
        """Note that series have rows in a day's bucket."""
        for chunk in _chunks(series_ids):
            used = (_series.c.id.in_(chunk), _series.c.last_day < day)
            connection.execute(update(_series).where(*used).values(last_day=day))

    def cells(self, connection: Connection, group: Group, series_ids: Collection[int]) -> dict[int, Cell]:
        """What these series of a bucket came to so far; those with nothing are left out."""
        found: dict[int, Cell] = {}
        for chunk in _chunks(series_ids):
            statement = select(_rollups).where(*_in(group), _rollups.c.series.in_(chunk))
            found |= {row.series: _cell(row, (*_SUMS, *_COUNTS, *_SKETCHES)) for row in connection.execute(statement)}
        return found

    def count(self, connection: Connection, group: Group) -> int:
        """How many series have something in a bucket."""
        return int(connection.execute(select(func.count()).select_from(_rollups).where(*_in(group))).scalar_one())

    def put(self, connection: Connection, cells: Iterable[tuple[Group, int, Cell]]) -> None:
        """Keep cells, each in place of what was kept of its series in its bucket."""
        rows = [_values(group, series_id, cell) for group, series_id, cell in cells]
        if not rows:
            return
        statement = _insert(connection, _rollups)
        kept = {name: statement.excluded[name] for name in (*_SUMS, *_COUNTS, *_SKETCHES)}
        connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=kept), rows)

    def smallest(self, connection: Connection, group: Group, number: int, but: int) -> list[int]:
        """The `number` series of a bucket with the fewest calls and runs, except one."""
        weight = _rollups.c.calls + _rollups.c.runs
        statement = select(_rollups.c.series).where(*_in(group), _rollups.c.series != but)
        return list(connection.execute(statement.order_by(weight, _rollups.c.series).limit(number)).scalars())

    def drop(self, connection: Connection, group: Group, series_ids: Collection[int]) -> None:
        """Forget what these series of a bucket came to."""
        for chunk in _chunks(series_ids):
            connection.execute(delete(_rollups).where(*_in(group), _rollups.c.series.in_(chunk)))

    def read(
        self,
        connection: Connection,
        tenant: str,
        cube: str,
        span: Span,
        series_ids: Collection[int] | None,
        columns: Collection[str],
        most: int,
    ) -> list[Row] | None:
        """The rows of a span, in no order; None where there are more than `most`.

        Args:
            connection: the transaction's.
            tenant: whose rows.
            cube: which cube.
            span: which buckets.
            series_ids: only of these series; None for all of them.
            columns: what of each cell is wanted: names of sums, counts and sketches.
            most: rows to read.
        """
        wanted = tuple(name for name in (*_SUMS, *_COUNTS, *_SKETCHES) if name in columns)
        chosen = select(_rollups.c.bucket, _rollups.c.series, *(_rollups.c[name] for name in wanted))
        chosen = chosen.where(*_within(tenant, cube, span))
        if series_ids is not None:
            chosen = chosen.where(_rollups.c.series.in_(series_ids))
        found = connection.execute(chosen.limit(most + 1)).all()
        if len(found) > most:
            return None
        return [Row(row.bucket, row.series, _cell(row, wanted)) for row in found]

    def scan(self, connection: Connection, tenant: str, cube: str, span: Span) -> Iterator[Row]:
        """The rows of a span by bucket and series, read as they are asked for."""
        ordered = select(_rollups).where(*_within(tenant, cube, span)).order_by(_rollups.c.bucket, _rollups.c.series)
        streamed = connection.execution_options(stream_results=True, yield_per=_CHUNK)
        for row in streamed.execute(ordered):
            yield Row(row.bucket, row.series, _cell(row, (*_SUMS, *_COUNTS, *_SKETCHES)))

    def expire(self, connection: Connection, granularity: str, before: int) -> int:
        """Forget buckets that began before then; returns how many rows those were."""
        dropped = 0
        for tenant, cube in connection.execute(select(_series.c.tenant, _series.c.cube).distinct()).all():
            old = (
                _rollups.c.granularity == granularity, *_of(_rollups, tenant, cube), _rollups.c.bucket < before,
            )  # fmt: skip
            dropped += connection.execute(delete(_rollups).where(*old)).rowcount
        return dropped

    def forget_series(self, connection: Connection, before: int) -> int:
        """Forget series whose last day began before then; returns how many those were."""
        return connection.execute(delete(_series).where(_series.c.last_day < before)).rowcount


def _insert(connection: Connection, into: Any) -> Any:  # noqa: ANN401 -- SQLAlchemy's own, one a dialect
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(into)


def _of(kept: Any, tenant: str, cube: str) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 -- a table
    return (kept.c.tenant == tenant, kept.c.cube == cube)


def _in(group: Group) -> tuple[ColumnElement[bool], ...]:
    return (
        _rollups.c.granularity == group.granularity,
        *_of(_rollups, group.tenant, group.cube),
        _rollups.c.bucket == group.bucket,
    )


def _within(tenant: str, cube: str, span: Span) -> tuple[ColumnElement[bool], ...]:
    return (
        _rollups.c.granularity == span.granularity.value,
        *_of(_rollups, tenant, cube),
        _rollups.c.bucket >= span.start_s,
        _rollups.c.bucket < span.end_s,
    )


def _values(group: Group, series_id: int, cell: Cell) -> dict[str, Any]:
    return {
        **group._asdict(),
        "series": series_id,
        **cell.sums,
        "codes": msgspec.json.encode(cell.codes).decode(),
        "run_states": msgspec.json.encode(cell.run_states).decode(),
        "latency": cell.latency.dump() if cell.latency is not None else None,
        "run_latency": cell.run_latency.dump() if cell.run_latency is not None else None,
        "principals": cell.principals.dump() if cell.principals is not None else None,
    }


def _cell(row: SqlRow[Any], columns: Sequence[str]) -> Cell:
    """A cell from what was read of it."""
    found = row._mapping  # noqa: SLF001 -- SQLAlchemy's documented way to a row's names
    return Cell(
        {name: found[name] for name in _SUMS if name in columns},
        msgspec.json.decode(found["codes"], type=dict[int, int]) if "codes" in columns else None,
        msgspec.json.decode(found["run_states"], type=dict[str, int]) if "run_states" in columns else None,
        *(found[name] if name in columns else None for name in _SKETCHES),
    )


def _chunks(values: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]
