"""What analytics' tests stand on: a migrated database for a test, and ways to count facts and to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

import analytics
import mesh
from analytics.buckets import Granularity, Span
from analytics.facts import Fact, Prices
from analytics.filters import parse_filter
from analytics.metrics import METRICS
from analytics.query import Answer, Queries, Question, order_of
from analytics.rollups import Limits, Rollups
from analytics.store import RollupStore
from analytics.tally import Pending
from mesh.db import Database, open_database
from mesh.migrate import migrate
from tests.fakes.analytics_facts import NOON

ROWS = RollupStore()
DEFAULT = Limits()
FREE = Prices({})


def opened(path: Path) -> Database:
    """Analytics' database, migrated."""
    database = open_database(f"sqlite:///{path}")
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(analytics.__path__[0]) / "migrations" / "versions")
    return database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database of the test's own."""
    made = opened(tmp_path / "analytics.db")
    yield made
    await made.close()


class Counter:
    """Counts facts as the service does, one batch after the other."""

    def __init__(self, database: Database, limits: Limits = DEFAULT, prices: Prices = FREE) -> None:
        self.database = database
        self.rollups = Rollups(ROWS, limits, now=lambda: self.now)
        self.prices = prices
        self.now = 0.0

    async def count(self, facts: Sequence[Fact], before: int | None = None) -> None:
        """Count a batch that comes after `before`, where the cursor stands if that is not said."""
        start = await self.database.read(ROWS.position) if before is None else before
        pending = Pending(self.prices)
        pending.add(facts)
        await self.database.write(
            lambda transaction: self.rollups.keep(transaction, pending, start, start + len(facts))
        )
        self.rollups.committed()

    async def ask(
        self,
        *group_by: str,
        text: str = "",
        tenant: str = "default",
        granularity: Granularity = Granularity.DAY,
        order: str = "",
        limit: int = 1000,
        span: Span | None = None,
    ) -> Answer:
        """What the day came to, with every metric."""
        start = Granularity.DAY.floor(NOON)
        wanted = span or Span(granularity, start, start + 86400)
        metric, descending = order_of(order)
        question = Question(
            tenant, wanted, list(METRICS.values()), group_by, parse_filter(text), metric, descending, limit
        )
        return await Queries(self.database, ROWS).answer(question)


@pytest.fixture
def counter(database: Database) -> Counter:
    """Counts facts in the test's own database."""
    return Counter(database)


@pytest.fixture
def limited(database: Database) -> Callable[[int], Counter]:
    """Makes one that keeps so many series apart in a bucket."""
    return lambda number: Counter(database, Limits(number))
