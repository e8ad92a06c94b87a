"""Exports: every row in a file that others read, nothing left behind, refused when it is too much."""

from __future__ import annotations

import csv
from pathlib import Path

import duckdb
import pytest

import analytics.export
from analytics.adapters.parquet import DuckdbParquet
from analytics.buckets import Granularity, Span
from analytics.errors import ExportFailedError, ExportsBusyError, QueryTooLargeError
from analytics.export import COLUMNS, Exports, pieces
from analytics.facts import Usage
from analytics.filters import parse_filter
from mesh.db import Database
from tests.fakes.analytics_facts import NOON, a_fact
from tests.unit.analytics.conftest import ROWS, Counter

START = Granularity.DAY.floor(NOON)
DAY = Span(Granularity.HOUR, START, START + 86400)
ALL = parse_filter("")


@pytest.fixture
def exports(database: Database, tmp_path: Path) -> Exports:
    return Exports(database, ROWS, DuckdbParquet(), tmp_path / "exports")


@pytest.fixture
async def used(counter: Counter) -> None:
    await counter.count(
        [
            a_fact(0, model="tenants/default/models/m", usage=Usage(100, 20, 3), duration_ms=2.5),
            a_fact(10, model="tenants/default/models/m", usage=Usage(1), duration_ms=2.5),
            a_fact(7200, code=5),
            a_fact(0, run_state="SUCCEEDED", steps=4),
            a_fact(0, tenant="acme"),
        ]
    )


def the_file(folder: Path) -> list[Path]:
    return sorted((folder / "exports").iterdir())


async def test_a_csv_file_has_a_row_a_bucket_and_series(exports: Exports, used, tmp_path: Path):
    async with exports.written("default", DAY, ALL, as_parquet=False) as export:
        with export.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert export.path.stat().st_mode & 0o777 == 0o600
        assert b"".join([piece async for piece in pieces(export.path, 10)]) == export.path.read_bytes()
    assert list(rows[0]) == list(COLUMNS)
    assert export.rows == len(rows) == 3
    model = next(row for row in rows if row["model"])
    assert (model["calls"], model["tokens_in"], model["tokens_out"], model["rows"]) == ("2", "101", "20", "3")
    assert model["latency_p95_ms"] == "2.5"
    assert {row["start_time"] for row in rows} == {"2026-09-21T12:00:00Z", "2026-09-21T14:00:00Z"}
    assert the_file(tmp_path) == []


async def test_a_parquet_file_has_the_same_rows_with_types(exports: Exports, used, tmp_path: Path):
    async with exports.written("default", DAY, ALL, as_parquet=True) as export:
        with duckdb.connect() as connection:
            table = connection.read_parquet(str(export.path))
            types = dict(zip(table.columns, map(str, table.types), strict=True))
            wanted = "sum(calls), sum(errors), sum(runs), sum(tokens_in), max(start_time)::VARCHAR"
            sums = connection.sql(f"SELECT {wanted} FROM '{export.path}'").fetchall()[0]
    assert types == COLUMNS
    assert sums == (3, 1, 1, 101, "2026-09-21 14:00:00")
    assert the_file(tmp_path) == []


async def test_an_export_holds_what_the_filter_holds_for_and_of_nothing_has_headings_only(exports: Exports, used):
    async with exports.written("default", DAY, parse_filter("model = m"), as_parquet=False) as export:
        assert export.rows == 1
    async with exports.written("nobody", DAY, ALL, as_parquet=True) as export:
        with duckdb.connect() as connection:
            assert connection.read_parquet(str(export.path)).columns == list(COLUMNS)
        assert export.rows == 0


async def test_an_export_that_is_too_large_or_one_too_many_is_refused(exports: Exports, used, monkeypatch, tmp_path):
    monkeypatch.setattr(analytics.export, "_MAX_ROWS", 2)
    with pytest.raises(QueryTooLargeError):
        async with exports.written("default", DAY, ALL, as_parquet=False):
            pass
    monkeypatch.setattr(analytics.export, "_MAX_ROWS", 100)
    monkeypatch.setattr(analytics.export, "_AT_ONCE", 1)
    async with exports.written("default", DAY, ALL, as_parquet=False):
        with pytest.raises(ExportsBusyError):
            async with exports.written("default", DAY, ALL, as_parquet=False):
                pass
    assert the_file(tmp_path) == []


async def test_what_an_earlier_life_left_is_removed(database: Database, tmp_path: Path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "left.csv").touch()
    Exports(database, ROWS, DuckdbParquet(), tmp_path / "exports")
    assert the_file(tmp_path) == []


async def test_a_parquet_file_that_cannot_be_written_is_said_without_the_machines_own_words(tmp_path: Path):
    with pytest.raises(ExportFailedError, match="analytics' log says why"):
        await DuckdbParquet().write(tmp_path / "missing.csv", tmp_path / "out.parquet", COLUMNS)
