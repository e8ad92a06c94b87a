"""Filters: what they mean, that every mistake has its place, and that no text does harm."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.errors import InvalidError
from orchestrator.filter import All, Any, Compare, Not, Order, parse_filter, parse_order

STATES = ("QUEUED", "FAILED")
A, B, C = (Compare("labels", key, "=", "x") for key in "abc")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("  ", None),
        ("state = FAILED", Compare("state", "", "=", "FAILED")),
        ('state!="QUEUED"', Compare("state", "", "!=", "QUEUED")),
        ("labels.a = x AND labels.b = x", All((A, B))),
        ("labels.a = x labels.b = x", All((A, B))),
        ("labels.a = x OR labels.b = x AND labels.c = x", All((Any((A, B)), C))),
        ("labels.a = x AND labels.b = x OR labels.c = x", All((A, Any((B, C))))),
        ("(labels.a = x AND labels.b = x) OR labels.c = x", Any((All((A, B)), C))),
        ("NOT labels.a = x", Not(A)),
        ("-labels.a = x", Not(A)),
        ("-(labels.a = x)", Not(A)),
        ("labels.a:*", Compare("labels", "a", ":", "*")),
        (r'labels.a = "say \"x\" \\ \'"', Compare("labels", "a", "=", 'say "x" \\ \'')),
        ("priority >= 3", Compare("priority", "", ">=", 3)),
        (
            "create_time < 2026-01-31T08:00:00+02:00",
            Compare("create_time", "", "<", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ),
    ],
)
def test_a_filter_means(text, tree):
    assert parse_filter(text, STATES) == tree


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("stat = FAILED", "character 1", "expected one of state"),
        ("state = LOST", "character 9", "QUEUED, FAILED"),
        ('schedule = "nightly"', "character 12", "a full name"),
        ("state > FAILED", "character 7", "= !="),
        ("state =", "the end", "expected a value"),
        ("state = FAILED AND", "the end", "expected one of"),
        ("state = FAILED )", "character 16", "expected AND, OR or the end"),
        ("(state = FAILED", "the end", "`)`"),
        ("labels = x", "character 1", "labels.KEY"),
        ("labels.a > 3", "character 10", "= != :"),
        ("labels.a:b", "character 10", "expected *"),
        ("priority = high", "character 12", "number"),
        ("create_time > yesterday", "character 15", "2026-01-31T08:00:00Z"),
        ("create_time > 2026-01-31T08:00:00", "character 15", ""),
        ('create_time > "0001-01-01T00:00:00+23:00"', "character 15", "out of range"),
        ('state = "FAILED', "character 9", "quote"),
        ("(" * 30 + "state = FAILED" + ")" * 30, "character 22", "deeper"),
        (" AND ".join(["priority = 1"] * 60), "", "more than 50"),
    ],
)
def test_a_mistake_is_said_with_its_place(text, place, says):
    with pytest.raises(InvalidError) as caught:
        parse_filter(text, STATES)
    assert place in caught.value.message
    assert says in caught.value.message


values = st.text(max_size=30)
keys = st.from_regex(r"[A-Za-z0-9_./-]{1,20}", fullmatch=True)


def quoted(value):
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(tree):
    match tree:
        case Compare(field, key, comparator, value):
            text = value if isinstance(value, int) else quoted(value)
            return f"{field}{'.' if key else ''}{key} {comparator} {text}"
        case Not(term):
            return f"NOT ({written(term)})"
        case All(terms):
            return " AND ".join(f"({written(term)})" for term in terms)
        case Any(terms):
            return " OR ".join(f"({written(term)})" for term in terms)


compares = st.one_of(
    st.builds(Compare, st.just("labels"), keys, st.sampled_from(["=", "!="]), values),
    st.builds(
        Compare,
        st.just("requester"),
        st.just(""),
        st.sampled_from(["=", "!="]),
        values.map("tenants/default/principals/{}".format),
    ),
    st.builds(Compare, st.just("priority"), st.just(""), st.sampled_from(["=", "<", ">="]), st.integers(0, 99)),
)
trees = st.recursive(
    compares,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: All(tuple(terms))),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: Any(tuple(terms))),
    ),
    max_leaves=8,
)


@given(trees)
def test_what_is_written_is_read(tree):
    assert parse_filter(written(tree), STATES) == tree


@given(st.text(alphabet=st.sampled_from(list("()\"'\\=<>!:-. \nANDORTsate1é")), max_size=60))
@example('"' * 1000)
@example("\\")
@example("!")
def test_any_text_is_a_filter_or_one_clear_error(text):
    try:
        parse_filter(text, STATES)
    except InvalidError as error:
        assert error.message.startswith("filter: at ")


def test_an_order_is_a_field_and_a_direction():
    assert parse_order("") == Order("name")
    assert parse_order("create_time") == parse_order(" create_time  asc") == Order("create_time")
    assert parse_order("create_time desc") == Order("create_time", descending=True)
    for wrong in ("state", "name down", "name, create_time", "create_time desc desc"):
        with pytest.raises(InvalidError):
            parse_order(wrong)
