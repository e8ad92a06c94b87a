"""Counting: exact at every granularity and cut, whatever the order, through replays and crashes, in bounded room."""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from analytics.buckets import Granularity, Span
from analytics.dimensions import CUBES, DIMENSIONS
from analytics.errors import CursorMovedError
from analytics.facts import Fact, Price, Prices, Usage
from analytics.tally import Pending
from mesh.db import Database
from tests.fakes.analytics_facts import NOON, a_fact
from tests.unit.analytics.conftest import ROWS, Counter, opened

FACTS = st.builds(
    lambda at, service, agent, principal, code, tokens, state: a_fact(
        at, service=service, agent=agent, principal=principal, code=code, usage=Usage(tokens), run_state=state
    ),
    st.integers(-43_000, 43_000),
    st.sampled_from(["engine", "security"]),
    st.sampled_from(["", "tenants/default/agents/a", "tenants/default/agents/b"]),
    st.sampled_from(["", "tenants/default/principals/ada", "tenants/default/principals/bob"]),
    st.sampled_from([0, 0, 5, 7, 1]),
    st.integers(0, 50),
    st.sampled_from(["", "", "SUCCEEDED", "FAILED"]),
)


def expected(facts: list[Fact], places: tuple[int, ...], granularity: Granularity) -> dict[tuple, tuple]:
    """Calls, errors, tokens and ended runs by bucket and dimensions, counted one by one."""
    found: dict[tuple, list[int]] = {}
    for fact in facts:
        key = (granularity.floor(fact.start_s), *(fact.series[at] for at in places))
        sums = found.setdefault(key, [0, 0, 0, 0])
        if fact.run_state:
            sums[3] += 1
        else:
            sums[0] += 1
            sums[1] += fact.code not in (0, 1)
            sums[2] += fact.usage.tokens_in
    return {key: tuple(sums) for key, sums in found.items()}


async def counted(counter: Counter, dimensions: tuple[str, ...], granularity: Granularity) -> dict[tuple, tuple]:
    """The same as it was kept."""
    answer = await counter.ask(*dimensions, granularity=granularity)
    return {
        (bucket, *series.values): (cell.calls, cell.errors, cell.sums[2], cell.runs)
        for series in answer.series
        for bucket, cell in series.points
    }


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(FACTS, max_size=40), min_size=1, max_size=4))
def test_whatever_comes_in_whatever_order_is_counted_exactly_in_its_bucket(tmp_path_factory, batches):
    async def check() -> None:
        database = opened(tmp_path_factory.mktemp("exact") / "analytics.db")
        counter = Counter(database)
        for batch in batches:
            await counter.count(batch)
        facts = [fact for batch in batches for fact in batch]
        for dimensions in CUBES.values():
            places = tuple(DIMENSIONS.index(dimension) for dimension in dimensions)
            for granularity in Granularity:
                assert await counted(counter, dimensions, granularity) == expected(facts, places, granularity)
        await database.close()

    asyncio.run(check())


async def test_a_record_that_comes_late_is_added_to_its_own_bucket(counter: Counter):
    await counter.count([a_fact(0), a_fact(120)])
    await counter.count([a_fact(30), a_fact(-7200)])
    assert await counted(counter, (), Granularity.MINUTE) == {
        (NOON - 7200,): (1, 0, 0, 0), (NOON,): (2, 0, 0, 0), (NOON + 120,): (1, 0, 0, 0),
    }  # fmt: skip


async def test_a_batch_that_is_counted_again_is_refused_and_changes_nothing(counter: Counter):
    await counter.count([a_fact(), a_fact()], before=0)
    with pytest.raises(CursorMovedError):
        await counter.count([a_fact(), a_fact()], before=0)
    await counter.count([a_fact()], before=2)
    assert (await counter.ask()).total.calls == 3


async def test_two_who_count_the_same_records_count_each_once(database: Database, tmp_path: Path):
    """Two replicas, each with what it remembers of the cells, take turns and get in each other's way."""
    second = opened(tmp_path / "analytics.db")
    draw = random.Random(3)  # noqa: S311 -- the same turns each time
    facts = [a_fact(draw.randrange(600), agent=f"tenants/default/agents/a{draw.randrange(3)}") for _ in range(400)]
    replicas = [Counter(database), Counter(second)]
    believed = [0, 0]
    for _ in range(400):
        who = draw.randrange(2)
        start = believed[who]
        try:
            await replicas[who].count(facts[start : start + 7], before=start)
            believed[who] = min(len(facts), start + 7)
        except CursorMovedError:
            believed[who] = await database.read(ROWS.position)
    assert await database.read(ROWS.position) == len(facts)
    assert await counted(replicas[0], ("agent",), Granularity.MINUTE) == expected(facts, (2,), Granularity.MINUTE)
    await second.close()


class StopError(Exception):
    """Stands for the death of the process."""


class Failing:
    """The rows, which fail before or after one of their methods."""

    def __init__(self, method: str, *, after: bool) -> None:
        self.method, self.after = method, after

    def __getattr__(self, name: str):
        real = getattr(ROWS, name)
        if name != self.method:
            return real

        def fail(*arguments, **named):
            if self.after:
                real(*arguments, **named)
            raise StopError

        return fail


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["move", "series", "add_series", "touch", "count", "cells", "put"])
async def test_a_crash_at_any_statement_keeps_nothing_and_the_batch_counts_once_afterwards(
    database: Database, method: str, after: bool
):
    counter = Counter(database)
    await counter.count([a_fact(), a_fact(60)])
    batch = [a_fact(), a_fact(3600, agent="tenants/default/agents/new"), a_fact(86400)]
    counter.rollups._rows = Failing(method, after=after)
    if method in ("series", "cells", "count"):
        counter.rollups.forget()
    with pytest.raises(StopError):
        await counter.count(batch)
    assert await database.read(ROWS.position) == 2
    counter.rollups._rows = ROWS
    await counter.count(batch)  # the same object, with what it remembers
    await Counter(database).count([a_fact()])  # and one that has just started
    facts = [a_fact(), a_fact(60), *batch, a_fact()]
    start = Granularity.DAY.floor(NOON)
    answer = await counter.ask("agent", span=Span(Granularity.DAY, start, start + 2 * 86400))
    found = Tally({series.values[0]: series.total.calls for series in answer.series})
    assert found == Tally(fact.series[2] for fact in facts)


async def test_what_was_added_in_a_transaction_that_was_undone_is_added_once_when_it_is_done_again(limited):
    counter = limited(3)
    await counter.count([a_fact()])
    batch = [a_fact(agent=f"tenants/default/agents/a{n}") for n in range(10)]
    pending = Pending(Prices({}))
    pending.add(batch)
    undone = []

    def keep(transaction) -> None:
        counter.rollups.keep(transaction, pending, 1, 11)
        undone.append(1)
        raise StopError

    for _ in range(2):
        with pytest.raises(StopError):
            await counter.database.write(keep)
    await counter.count(batch)
    answer = await counter.ask("agent")
    assert len(undone) == 2
    assert answer.total.calls == sum(series.total.calls for series in answer.series) == 11
    assert answer.total.latency.count == 11


async def test_a_bucket_that_was_folded_in_vain_takes_new_series(limited: Callable[[int], Counter]):
    counter = limited(3)
    pending = Pending(Prices({}))
    pending.add(a_fact(agent=f"tenants/default/agents/a{n}") for n in range(10))

    def keep(transaction) -> None:
        counter.rollups.keep(transaction, pending, 0, 10)
        raise StopError

    with pytest.raises(StopError):
        await counter.database.write(keep)
    await counter.count([a_fact(agent="tenants/default/agents/new")])
    assert {series.values[0] for series in (await counter.ask("agent")).series} == {"tenants/default/agents/new"}


async def test_series_beyond_the_limit_become_other_and_nothing_is_lost(limited: Callable[[int], Counter]):
    counter = limited(5)
    often = [a_fact(agent=f"tenants/default/agents/often{n}") for n in range(4) for _ in range(20)]
    rare = [a_fact(agent=f"tenants/default/agents/rare{n}") for n in range(40)]
    await counter.count([*often, *rare])
    answer = await counter.ask("agent")
    found = {series.values[0].rsplit("/", 1)[-1]: series.total.calls for series in answer.series}
    assert sum(found.values()) == answer.total.calls == 120
    assert {name: found[name] for name in found if name.startswith("often")} == {f"often{n}": 20 for n in range(4)}
    assert found["other"] >= 34
    assert len(found) <= 7
    assert answer.total.latency.count == 120


async def test_a_bucket_that_was_folded_takes_no_new_series_for_a_minute_and_then_the_large_ones(limited):
    counter = limited(3)
    await counter.count([a_fact(agent=f"tenants/default/agents/r{n}") for n in range(10)])
    newcomer = [a_fact(agent="tenants/default/agents/late") for _ in range(50)]
    await counter.count(newcomer)
    assert "tenants/default/agents/late" not in {s.values[0] for s in (await counter.ask("agent")).series}
    counter.now += 61
    await counter.count(newcomer)
    answer = await counter.ask("agent", order="calls desc")
    assert answer.total.calls == 110
    assert ("tenants/default/agents/late",) in {series.values for series in answer.series}


async def test_a_flood_of_names_leaves_a_bounded_number_of_rows(limited: Callable[[int], Counter]):
    counter = limited(10)
    for batch in range(20):
        await counter.count([a_fact(agent=f"tenants/default/agents/x{batch}-{n}") for n in range(100)])

    def sizes(connection):
        kept = connection.execute(text("SELECT count(*) FROM series WHERE cube = 'agent'")).scalar_one()
        rows = connection.execute(
            text("SELECT count(*) FROM rollups WHERE cube = 'agent' AND granularity = 'day'")
        ).scalar_one()
        return kept, rows

    kept, rows = await counter.database.read(sizes)
    assert kept <= 101
    assert rows <= 21
    assert (await counter.ask()).total.calls == 2000
    assert sum(series.total.calls for series in (await counter.ask("agent")).series) == 2000


async def test_tenants_are_counted_apart(counter: Counter):
    await counter.count([a_fact(), a_fact(tenant="acme"), a_fact(tenant="acme")])
    assert (await counter.ask()).total.calls == 1
    assert (await counter.ask(tenant="acme")).total.calls == 2
    assert (await counter.ask("service", tenant="nobody")).series == ()


async def test_calls_cost_what_the_prices_say_and_only_use_is_priced_by_the_call(database: Database):
    prices = Prices(
        {"m": Price(tokens_in_1k=0.5, tokens_out_1k=2.0), "tenants/default/connections/crm": Price(calls_1k=3.0)}
    )
    counter = Counter(database, prices=prices)
    await counter.count(
        [
            a_fact(model="tenants/default/models/m", usage=Usage(1000, 500)),
            a_fact(model="tenants/system/models/m", usage=Usage(1, 0)),
            a_fact(model="tenants/default/models/free", usage=Usage(10_000)),
            a_fact(connection="tenants/default/connections/crm", executed=True),
            a_fact(connection="tenants/default/connections/crm"),
        ]
    )
    answer = await counter.ask()
    assert answer.total.sums[5] == round((0.5 + 1.0 + 0.0005 + 0.003) * 1e9)


async def test_sums_end_where_64_bits_do_and_the_most_is_what_is_told(database: Database):
    counter = Counter(database, prices=Prices({"m": Price(tokens_in_1k=1_000_000.0)}))
    dear = a_fact(model="tenants/default/models/m", usage=Usage(2**62 + 1, 2**40))
    await counter.count([dear, dear])
    await Counter(database).count([dear])  # one that reads what is kept
    total = (await counter.ask()).total
    assert (total.calls, total.sums[2], total.sums[3]) == (3, 2**63 - 1024, 3 * 2**40)
    assert total.sums[5] == int(float(total.sums[5])) == 2**63 - 1024


async def test_streams_count_as_calls_and_say_nothing_about_latency(counter: Counter):
    await counter.count([a_fact(duration_ms=5.0), a_fact(duration_ms=600_000.0, streamed=True, code=1)])
    total = (await counter.ask()).total
    assert (total.calls, total.errors, total.latency.count) == (2, 0, 1)
    assert total.latency.at(0.99) == [5.0]
