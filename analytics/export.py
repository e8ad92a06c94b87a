"""Usage as a file: written whole before its first byte is sent, so that what is sent is never cut short by an error.

Rows are read and written one after the other: a large file needs disk, not memory.
"""

from __future__ import annotations

import asyncio
import csv
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from analytics.buckets import Span
from analytics.cells import Cell
from analytics.dimensions import DIMENSIONS
from analytics.errors import ExportsBusyError, QueryTooLargeError
from analytics.filters import Filter
from analytics.metrics import METRICS, Metric
from analytics.ports import ParquetWriter, RollupRows, Row
from analytics.reading import Stop, long_read
from mesh.db import Database, DatabaseFullError, Transaction

__all__ = ["COLUMNS", "Export", "Exports", "pieces"]

_AT_ONCE = 4
_READING = 2
"""Exports that read at the same time, of the database's four threads for that; the others wait."""
_MAX_ROWS = 2_000_000
_METRICS = tuple(metric for metric in METRICS.values() if metric.name not in ("codes", "run-states"))
_WHOLE = {"1", "{token}", "{row}", "By"}
_UNITS = {"ms": "_ms", "By": ""}


def _type(name: str) -> str:
    metric = METRICS[name]
    return "BIGINT" if metric.unit in _WHOLE and "ratio" not in name else "DOUBLE"


def _heading(name: str) -> str:
    return name.replace("-", "_") + _UNITS.get(METRICS[name].unit, "")


COLUMNS = {
    "start_time": "TIMESTAMP",
    "granularity": "VARCHAR",
    **dict.fromkeys(DIMENSIONS, "VARCHAR"),
    **{_heading(metric.name): _type(metric.name) for metric in _METRICS},
}
"""The file's columns with their SQL types."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file that was written: where it is, and how many rows it has."""

    path: Path
    rows: int


class Exports:
    """Writes files.

    Args:
        database: the service's own.
        rows: its statements.
        parquet: turns CSV into Parquet.
        folder: where files are written; it is emptied.
    """

    def __init__(self, database: Database, rows: RollupRows, parquet: ParquetWriter, folder: Path) -> None:
        self._database = database
        self._rows = rows
        self._parquet = parquet
        self._folder = folder
        self._under_way = 0
        self._turns = asyncio.Semaphore(_READING)
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.iterdir():  # an earlier life ended in the middle
            left.unlink()

    @asynccontextmanager
    async def written(self, tenant: str, span: Span, wanted: Filter, *, as_parquet: bool) -> AsyncIterator[Export]:
        """A file with a tenant's usage; it is gone when the block ends.

        Raises:
            ExportsBusyError: enough exports are under way.
            QueryTooLargeError: it would have too many rows.
            DatabaseFullError: no room is left on the disk.
            ExportFailedError: the Parquet file could not be written.
        """
        if self._under_way >= _AT_ONCE:
            raise ExportsBusyError(f"{_AT_ONCE} exports are under way; try again", retry_after_s=2.0)
        self._under_way += 1
        table = self._folder / f"{secrets.token_hex(8)}.csv"
        packed = table.with_suffix(".parquet")
        try:
            async with self._turns:
                count = await long_read(
                    self._database,
                    lambda transaction, stop: self._write(transaction, stop, tenant, span, wanted, table),
                )
            if as_parquet:
                await self._parquet.write(table, packed, COLUMNS)
                table.unlink()
            yield Export(packed if as_parquet else table, count)
        except OSError as error:
            raise DatabaseFullError(
                f"the export cannot be written ({error.strerror}); free some space, then try again", retry_after_s=5.0
            ) from None
        finally:
            self._under_way -= 1
            for path in (table, packed):
                path.unlink(missing_ok=True)

    def _write(self, transaction: Transaction, stop: Stop, tenant: str, span: Span, wanted: Filter, path: Path) -> int:
        """Write the CSV file, or leave none; returns how many rows it has."""
        series = {
            one.series_id: one.values
            for one in self._rows.series(transaction, tenant, "all")
            if wanted.holds(one.values)
        }
        rows = stop.watched(self._rows.scan(transaction, tenant, "all", span))
        try:
            with path.open("x", newline="", encoding="utf-8") as file:
                path.chmod(0o600)
                return _fill(file, series, rows, span.granularity.value)
        except BaseException:  # whatever ended it, half a file must not stay: it may be written anew
            path.unlink(missing_ok=True)
            raise


def _fill(file: TextIO, series: Mapping[int, tuple[str, ...]], rows: Iterator[Row], granularity: str) -> int:
    """Write the headings, and the rows of these series; returns how many those are."""
    count = 0
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for bucket, series_id, cell in rows:
        values = series.get(series_id)
        if values is None:
            continue
        count += 1
        if count > _MAX_ROWS:
            raise QueryTooLargeError(f"the file would have more than {_MAX_ROWS} rows; export a shorter range")
        moment = datetime.fromtimestamp(bucket, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        writer.writerow([moment, granularity, *values, *(_shown(cell, metric) for metric in _METRICS)])
    return count


def _shown(cell: Cell, metric: Metric) -> str:
    """A metric's value as the file has it; empty where there is none."""
    value = metric.value(cell)
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else f"{value:.9g}"


async def pieces(path: Path, size: int = 256 * 1024) -> AsyncIterator[bytes]:
    """A file's bytes, piece by piece."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, size):
            yield piece
    finally:
        file.close()
