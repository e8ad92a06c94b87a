"""Sketches: merged parts answer as one that has seen everything."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.sketches import Distinct, Quantiles

RANK_ERROR = 0.0266
"""Twice what a sketch of k = 200 is off by with 99 % confidence: this must hold every time."""


def rank(values: list[float], value: float) -> tuple[float, float]:
    """The share of values below, and at or below."""
    return sum(v < value for v in values) / len(values), sum(v <= value for v in values) / len(values)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.floats(0, 60_000, width=32), min_size=1, max_size=700), min_size=1, max_size=12))
def test_the_quantiles_of_merged_parts_are_those_of_everything_within_the_bound(parts: list[list[float]]):
    merged = Quantiles()
    for part in parts:
        one = Quantiles()
        one.add(part)
        merged.merge(Quantiles(one.dump()))
    everything = [value for part in parts for value in part]
    assert merged.count == len(everything)
    for share, value in zip((0.5, 0.95, 0.99), merged.at(0.5, 0.95, 0.99), strict=True):
        below, at_most = rank(everything, value)
        assert below - RANK_ERROR <= share <= at_most + RANK_ERROR + 1 / len(everything)


def test_the_quantiles_of_few_numbers_are_exact():
    sketch = Quantiles()
    sketch.add([float(n) for n in range(1, 101)])
    assert sketch.at(0.5, 0.95, 0.99) == [50.0, 95.0, 99.0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sets(st.integers(0, 400), max_size=200), min_size=1, max_size=10))
def test_the_distinct_count_of_merged_parts_is_that_of_everything(parts: list[set[int]]):
    merged = Distinct()
    for part in parts:
        one = Distinct()
        one.add({f"tenants/default/principals/p{n}" for n in part})
        merged.merge(Distinct(one.dump()))
    everything = set().union(*parts)
    assert math.isclose(merged.estimate, len(everything), rel_tol=0.1, abs_tol=0.5)


def test_a_sketch_stays_small_however_much_it_sees():
    quantiles, distinct = Quantiles(), Distinct()
    quantiles.add([float(n) for n in range(200_000)])
    distinct.add({str(n) for n in range(20_000)})
    assert len(quantiles.dump()) < 3_000
    assert len(distinct.dump()) < 3_000
    assert distinct.estimate == pytest.approx(20_000, rel=0.1)
