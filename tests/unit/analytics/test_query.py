"""Questions: what is grouped, filtered, ordered and cut, and what is refused with one clear error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import analytics.query
from analytics.buckets import Granularity, Span
from analytics.cells import Cell
from analytics.dimensions import CUBES, DIMENSIONS, cube_for
from analytics.errors import QueryTooLargeError
from analytics.facts import Usage
from analytics.filters import parse_filter
from analytics.metrics import METRICS, metrics_named
from analytics.query import order_of
from mesh.errors import InvalidError
from tests.fakes.analytics_facts import NOON, a_fact
from tests.unit.analytics.conftest import Counter

A, B = "tenants/default/agents/a", "tenants/default/agents/b"


@pytest.fixture
async def asked(counter: Counter) -> Counter:
    """Three calls of agent a, one of b, one of nobody."""
    await counter.count(
        [
            a_fact(0, agent=A, service="engine", duration_ms=1.0, usage=Usage(10, 20, 1)),
            a_fact(60, agent=A, service="engine", duration_ms=3.0, code=3),
            a_fact(60, agent=A, service="security", duration_ms=5.0),
            a_fact(0, agent=B, service="engine", duration_ms=100.0, principal="tenants/default/principals/bob"),
            a_fact(0, agent="", service="engine", method="x/y", duration_ms=7.0),
        ]
    )
    return counter


def shown(answer) -> dict[tuple[str, ...], int]:
    return {series.values: series.total.calls for series in answer.series}


async def test_series_are_grouped_and_add_up_to_the_total(asked: Counter):
    answer = await asked.ask("agent")
    assert shown(answer) == {(A,): 3, (B,): 1, ("",): 1}
    assert answer.total.calls == 5
    two = await asked.ask("agent", "service")
    assert shown(two) == {(A, "engine"): 2, (A, "security"): 1, (B, "engine"): 1, ("", "engine"): 1}
    assert round(answer.total.principals.estimate) == 2


async def test_points_are_by_bucket_oldest_first_and_empty_buckets_are_left_out(asked: Counter):
    answer = await asked.ask("agent", granularity=Granularity.MINUTE)
    by_agent = {series.values[0]: series for series in answer.series}
    assert [(bucket, cell.calls) for bucket, cell in by_agent[A].points] == [(NOON, 1), (NOON + 60, 2)]
    assert [bucket for bucket, _ in by_agent[B].points] == [NOON]
    part = await asked.ask(granularity=Granularity.MINUTE, span=Span(Granularity.MINUTE, NOON + 60, NOON + 120))
    assert part.total.calls == 2


async def test_a_filter_leaves_only_what_it_holds_for_by_whole_name_or_last_part(asked: Counter):
    assert shown(await asked.ask("service", text='agent = "a"')) == {("engine",): 2, ("security",): 1}
    assert (await asked.ask(text=f'agent="{A}" AND service=engine')).total.calls == 2
    assert (await asked.ask(text="method = GetModel")).total.calls == 4
    assert (await asked.ask(text="method = ModelService/GetModel")).total.calls == 4
    assert (await asked.ask(text='agent = ""')).total.calls == 1
    assert (await asked.ask(text="agent = nobody")).series == ()


async def test_series_are_ordered_by_a_metric_and_cut(asked: Counter):
    slowest = await asked.ask("agent", order="latency-p95 desc", limit=1)
    assert shown(slowest) == {(B,): 1}
    assert slowest.omitted == 2
    assert slowest.total.calls == 5
    fewest = await asked.ask("agent", order="calls")
    assert [series.values[0] for series in fewest.series] == ["", B, A]


async def test_every_metric_has_a_value_and_a_description(asked: Counter):
    await asked.count([a_fact(agent=A, run_state="FAILED", steps=3, duration_ms=50.0, code=13)])
    total = (await asked.ask(text="agent = a")).total
    values = {name: metric.value(total) for name, metric in METRICS.items()}
    assert values["calls"] == 3
    assert values["errors"] == 1
    assert values["error-ratio"] == pytest.approx(1 / 3)
    assert values["latency-mean"] == 3.0
    assert (values["latency-p50"], values["latency-p99"]) == (3.0, 5.0)
    assert (values["tokens-in"], values["tokens-out"], values["rows"]) == (10, 20, 1)
    assert (values["runs"], values["runs-failed"], values["run-steps"]) == (1, 1, 3)
    assert (values["run-duration-p50"], values["run-duration-mean"]) == (50.0, 50.0)
    assert values["principals"] == 1
    assert all(metric.description.endswith(".") and metric.needs for metric in METRICS.values())
    nothing = Cell()
    assert all(metric.value(nothing) in (0.0, None) for metric in METRICS.values())


async def test_a_question_that_would_read_too_much_is_refused_before_it_is_read(asked: Counter, monkeypatch):
    monkeypatch.setattr(analytics.query, "_MAX_ROWS", 3)
    with pytest.raises(QueryTooLargeError, match="coarser granularity"):
        await asked.ask("agent", granularity=Granularity.MINUTE)
    assert (await asked.ask()).total.calls == 5


async def test_an_answer_of_too_many_points_is_refused(asked: Counter, monkeypatch):
    monkeypatch.setattr(analytics.query, "_MAX_POINTS", 2)
    with pytest.raises(QueryTooLargeError, match="points"):
        await asked.ask("agent", granularity=Granularity.MINUTE)


def test_the_smallest_cube_that_has_the_dimensions_is_read():
    assert [cube_for(wanted) for wanted in ([], ["service"], ["method"], ["model"], ["agent", "model"])] == [
        "total", "service", "method", "model", "all",
    ]  # fmt: skip
    sizes = [len(dimensions) for dimensions in CUBES.values()]
    assert sizes == sorted(sizes)
    with pytest.raises(InvalidError, match="group_by"):
        cube_for(["colour"])


UNREADABLE = (
    "agent", "agent =", "= x", "agent = x OR agent = y", "agent != x", 'agent = "x', "agent = x AND", "agent:x",
    "agent = x agent = y", "colour = red", "agent = x AND agent = y", "NOT agent = x", "(agent = x)",
)  # fmt: skip


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_filter_that_cannot_be_read_is_refused_by_name(text: str):
    with pytest.raises(InvalidError, match=r"^filter: "):
        parse_filter(text)


@given(st.dictionaries(st.sampled_from(DIMENSIONS), st.text(min_size=1, max_size=30), min_size=1))
def test_any_value_can_be_said_in_quotes(wanted: dict[str, str]):
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in wanted.items()}
    read = parse_filter(" AND ".join(f'{name} = "{value}"' for name, value in quoted.items()))
    assert read.holds(tuple(wanted.get(dimension, "") for dimension in DIMENSIONS))
    assert not read.holds(("",) * len(DIMENSIONS))


@given(st.text(max_size=200))
def test_any_other_text_is_read_or_refused_and_never_breaks(text: str):
    try:
        parse_filter(text)
    except InvalidError as error:
        assert error.violations[0].field == "filter"


def test_metrics_and_orders_that_do_not_exist_are_refused_by_name():
    with pytest.raises(InvalidError, match="metrics: must name metrics: calls, errors"):
        metrics_named(["speed"])
    for text in ("speed desc", "calls sideways", "calls desc, errors"):
        with pytest.raises(InvalidError, match="order_by"):
            order_of(text)
    assert order_of("") == (METRICS["calls"], True)
    assert order_of("errors") == (METRICS["errors"], False)
