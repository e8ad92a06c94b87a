"""What the core asks of others: its rows, the feed of records, the runs that live, the writing of files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from analytics.buckets import Span
from analytics.cells import Cell
from analytics.facts import Fact
from mesh.db import Transaction

__all__ = ["Batch", "Feed", "Group", "LiveRuns", "ParquetWriter", "RollupRows", "Row", "SeriesRow"]


class Group(NamedTuple):
    """The bucket of a tenant's cube: what is kept apart in it are its series."""

    granularity: str
    tenant: str
    cube: str
    bucket: int


class SeriesRow(NamedTuple):
    """A series of a cube, with a value for every dimension; empty for those that the cube lacks."""

    series_id: int
    values: tuple[str, ...]
    last_day: int


class Row(NamedTuple):
    """What a series came to in a bucket."""

    bucket: int
    series_id: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class Batch:
    """The next facts of the feed.

    Attributes:
        facts: in the order of the feed.
        positions: the feed's position after each of them.
        last: the feed's position after them.
        newest: the newest position that there was.
        receive_s: when the last of them was received by security, in seconds since the epoch; 0 without facts.
    """

    facts: Sequence[Fact]
    positions: Sequence[int]
    last: int
    newest: int
    receive_s: float = 0.0


class Feed(Protocol):
    """The records, as facts."""

    def follow(self, position: int) -> AsyncIterator[Batch]:
        """What comes after a position, for ever; the first batch comes at once and may be empty.

        Raises:
            FeedBrokenError: security does not hand out records now.
        """


class LiveRuns(Protocol):
    """The runs that have not ended."""

    async def count(self, tenant: str) -> Mapping[str, Mapping[str, int]]:
        """How many there are by agent and state; empty while nobody knows."""


class ParquetWriter(Protocol):
    """Turns a CSV file into a Parquet file, with little memory."""

    async def write(self, source: Path, target: Path, columns: Mapping[str, str]) -> None:
        """Write it.

        Args:
            source: the CSV file, with a line of headings.
            target: the file to write.
            columns: the SQL type of each column.

        Raises:
            ExportFailedError: it could not be written.
        """


class RollupRows(Protocol):
    """The rows of rollups; `analytics.store` says what each method does."""

    def position(self, connection: Transaction) -> int:
        """How far the records have been counted."""

    def move(self, connection: Transaction, before: int, after: int) -> bool:
        """Move on from there; false where somebody else has."""

    def series(self, connection: Transaction, tenant: str, cube: str) -> list[SeriesRow]:
        """Every series of a tenant's cube."""

    def add_series(self, connection: Transaction, tenant: str, cube: str, values: tuple[str, ...], day: int) -> int:
        """A new series; returns its id."""

    def touch(self, connection: Transaction, series_ids: Collection[int], day: int) -> bool:
        """Note that series are in use on a day; false where some are not there any more."""

    def cells(self, connection: Transaction, group: Group, series_ids: Collection[int]) -> dict[int, Cell]:
        """What some series of a bucket came to so far."""

    def count(self, connection: Transaction, group: Group) -> int:
        """How many series a bucket has."""

    def put(self, connection: Transaction, cells: Iterable[tuple[Group, int, Cell]]) -> None:
        """Keep cells in place of what was kept."""

    def smallest(self, connection: Transaction, group: Group, number: int, but: int) -> list[int]:
        """The series of a bucket with the least in them."""

    def drop(self, connection: Transaction, group: Group, series_ids: Collection[int]) -> None:
        """Forget what series of a bucket came to."""

    def read(
        self,
        connection: Transaction,
        tenant: str,
        cube: str,
        span: Span,
        series_ids: Collection[int] | None,
        columns: Collection[str],
        most: int,
    ) -> list[Row] | None:
        """The rows of a span; None where there are too many."""

    def scan(self, connection: Transaction, tenant: str, cube: str, span: Span) -> Iterator[Row]:
        """The rows of a span one after the other, by bucket, however many."""

    def expire(self, connection: Transaction, granularity: str, before: int) -> int:
        """Forget buckets that began before then."""

    def forget_series(self, connection: Transaction, before: int) -> int:
        """Forget series that no bucket has any more."""
