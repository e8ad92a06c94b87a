"""The SQL of rollups: what each series came to in each bucket, and how far the records have been counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, column, delete, func, insert, select, table, update
from sqlalchemy.dialects import postgresql, sqlite

from analytics.buckets import Span
from analytics.cells import SUMS, Cell
from analytics.dimensions import DIMENSIONS
from analytics.ports import Group, Row, SeriesRow

__all__ = ["RollupStore"]

_CURSOR = "records"
_COUNTS = ("codes", "run_states")
_SKETCHES = ("latency", "run_latency", "principals")
_KEY = ("granularity", "tenant", "cube", "bucket", "series")
_CHUNK = 500
"""Values in one IN list: SQLite takes 32,766 variables, PostgreSQL 65,535, and shorter statements are compiled once."""
_MOST = 2**63 - 1024
"""Sums end here: the largest 64-bit integer that is a double too, as which figures are handed out."""

_cursors = table("cursors", column("name"), column("position"))
_series = table("series", *(column(name) for name in ("id", "tenant", "cube", *DIMENSIONS, "last_day")))
_rollups = table(
    "rollups",
    *(column(name) for name in (*_KEY, *SUMS, *_COUNTS, *_SKETCHES)),
)
_ALL = (*SUMS, *_COUNTS, *_SKETCHES)

_ADD_SERIES = insert(_series).returning(_series.c.id)
_decode_codes = msgspec.json.Decoder(dict[int, int]).decode
_decode_states = msgspec.json.Decoder(dict[str, int]).decode


class RollupStore:
    """Statements on a connection; each method runs inside the caller's transaction."""

    def __init__(self) -> None:
        self._upserts: dict[str, tuple[str, Sequence[str] | None]] = {}

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
        columns = (_series.c[name] for name in ("id", *DIMENSIONS, "last_day"))
        found = connection.execute(select(*columns).where(*_of(_series, tenant, cube)))
        return [SeriesRow(row[0], tuple(row[1:-1]), row[-1]) for row in found]

    def add_series(self, connection: Connection, tenant: str, cube: str, values: tuple[str, ...], day: int) -> int:
        """Keep a new series and return its id."""
        row = {"tenant": tenant, "cube": cube, **dict(zip(DIMENSIONS, values, strict=True)), "last_day": day}
        return int(connection.execute(_ADD_SERIES, row).scalar_one())

    def touch(self, connection: Connection, series_ids: Collection[int], day: int) -> bool:
        """Note that series have rows in a day's bucket; false where some are gone, or were noted by somebody else."""
        touched = 0
        for chunk in _chunks(series_ids):
            used = (_series.c.id.in_(chunk), _series.c.last_day < day)
            touched += connection.execute(update(_series).where(*used).values(last_day=day)).rowcount
        return touched == len(series_ids)

    def cells(self, connection: Connection, group: Group, series_ids: Collection[int]) -> dict[int, Cell]:
        """What these series of a bucket came to so far; those with nothing are left out."""
        found: dict[int, Cell] = {}
        for chunk in _chunks(series_ids):
            statement = select(_rollups).where(*_in(group), _rollups.c.series.in_(chunk))
            found |= {row.series: _cell(tuple(row)[5:]) for row in connection.execute(statement)}
        return found

    def count(self, connection: Connection, group: Group) -> int:
        """How many series have something in a bucket."""
        return int(connection.execute(select(func.count()).select_from(_rollups).where(*_in(group))).scalar_one())

    def put(self, connection: Connection, cells: Iterable[tuple[Group, int, Cell]]) -> None:
        """Keep cells, each in place of what was kept of its series in its bucket."""
        rows = [_values(group, series_id, cell) for group, series_id, cell in cells]
        if not rows:
            return
        text, order = self._upsert(connection)
        given: Any = [tuple(map(row.__getitem__, order)) for row in rows] if order is not None else rows
        connection.exec_driver_sql(text, given)

    def _upsert(self, connection: Connection) -> tuple[str, Sequence[str] | None]:
        """The statement that keeps a cell, as the driver takes it, and the order of its values where that matters.

        Compiled once: with thousands of rows a second SQLAlchemy would take longer over their values than the database.
        """
        dialect = connection.dialect
        if dialect.name not in self._upserts:
            statement = _insert(connection, _rollups)
            kept = {name: statement.excluded[name] for name in _ALL}
            made = statement.on_conflict_do_update(index_elements=_KEY, set_=kept).compile(
                dialect=dialect, column_keys=[*_KEY, *_ALL]
            )
            self._upserts[dialect.name] = (made.string, made.positiontup if made.positional else None)
        return self._upserts[dialect.name]

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
        wanted = tuple(name for name in _ALL if name in columns)
        chosen = select(_rollups.c.bucket, _rollups.c.series, *(_rollups.c[name] for name in wanted))
        chosen = chosen.where(*_within(tenant, cube, span))
        if series_ids is not None:
            chosen = chosen.where(_rollups.c.series.in_(series_ids))
        found = connection.execute(chosen.limit(most + 1)).all()
        if len(found) > most:
            return None
        make = _maker(wanted)
        return [Row(row[0], row[1], make(row[2:])) for row in found]

    def scan(self, connection: Connection, tenant: str, cube: str, span: Span) -> Iterator[Row]:
        """The rows of a span by bucket and series, read as they are asked for."""
        ordered = select(_rollups).where(*_within(tenant, cube, span)).order_by(_rollups.c.bucket, _rollups.c.series)
        streamed = connection.execution_options(stream_results=True, yield_per=_CHUNK)
        for row in streamed.execute(ordered):
            yield Row(row.bucket, row.series, _cell(tuple(row)[5:]))

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
    sums = cell.sums if max(cell.sums) <= _MOST else [min(number, _MOST) for number in cell.sums]
    return {
        **group._asdict(),
        "series": series_id,
        **dict(zip(SUMS, sums, strict=True)),
        "codes": msgspec.json.encode(cell.codes).decode(),
        "run_states": msgspec.json.encode(cell.run_states).decode(),
        "latency": cell.latency.dump() if cell.latency is not None else None,
        "run_latency": cell.run_latency.dump() if cell.run_latency is not None else None,
        "principals": cell.principals.dump() if cell.principals is not None else None,
    }


def _cell(row: Sequence[Any]) -> Cell:
    """A cell from all of its columns."""
    return _maker(_ALL)(row)


def _maker(columns: Sequence[str]) -> Callable[[Sequence[Any]], Cell]:
    """What makes cells of rows with these columns, which stand in the order of all columns."""
    places = [SUMS.index(name) for name in columns if name in SUMS]
    codes, states, latency, run_latency, principals = (
        columns.index(name) if name in columns else None for name in (*_COUNTS, *_SKETCHES)
    )

    def make(row: Sequence[Any]) -> Cell:
        sums = [0] * len(SUMS)
        for place, value in zip(places, row, strict=False):  # the sums stand before the rest
            sums[place] = value
        return Cell(
            sums,
            None if codes is None else _decode_codes(row[codes]),
            None if states is None else _decode_states(row[states]),
            None if latency is None else row[latency],
            None if run_latency is None else row[run_latency],
            None if principals is None else row[principals],
        )

    return make


def _chunks(values: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]
