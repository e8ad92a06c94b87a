"""Ranking by several criteria: against a published example, against brute force, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiation.engine.v1 import ranking_pb2 as pb

from engine.decisions.ranking import Criterion, Matrix, Method, Normalisation, Problem, matrix_of, order_of, score
from engine.decisions.sensitivity import stability, turns
from engine.servicers.rankings import RankingServicer
from mesh.errors import InvalidError

# Hwang and Yoon, Multiple Attribute Decision Making (Springer 1981), the fighter aircraft example: its data, weights
# and closenesses as printed there, rounded to three digits.
AIRCRAFT = {
    "A1": (2.0, 1500, 20000, 5.5, 5, 9),
    "A2": (2.5, 2700, 18000, 6.5, 3, 5),
    "A3": (1.8, 2000, 21000, 4.5, 7, 7),
    "A4": (2.2, 1800, 20000, 5.0, 5, 5),
}
WEIGHTS = (0.2, 0.1, 0.1, 0.1, 0.2, 0.3)
CLOSENESS = {"A1": 0.643, "A2": 0.268, "A3": 0.613, "A4": 0.312}


def aircraft(method: Method, normalisation: Normalisation) -> Problem:
    names = ("speed", "range", "payload", "cost", "reliability", "manoeuvres")
    criteria = tuple(Criterion(name, weight, name == "cost") for name, weight in zip(names, WEIGHTS, strict=True))
    return Problem(criteria, tuple(AIRCRAFT), tuple(AIRCRAFT.values()), method, normalisation)


def problem(
    rows: list[tuple[float, ...]], weights: list[float], costs: tuple[int, ...] = (), method=Method.WEIGHTED_SUM,
    normalisation=Normalisation.MIN_MAX,
) -> Problem:  # fmt: skip
    criteria = tuple(Criterion(f"c{at}", weight, at in costs) for at, weight in enumerate(weights))
    return Problem(criteria, tuple(f"a{at}" for at in range(len(rows))), tuple(rows), method, normalisation)


def request(rows: dict[str, dict[str, float]], criteria: list[pb.Criterion], **more: object) -> pb.RankRequest:
    made = pb.RankRequest(parent="tenants/default", criteria=criteria, **more)
    for name, values in rows.items():
        made.alternatives.add(name=name, values=values)
    return made


def test_topsis_gives_the_closenesses_of_the_published_example():
    matrix = matrix_of(aircraft(Method.TOPSIS, Normalisation.VECTOR))
    found = dict(zip(AIRCRAFT, score(matrix, matrix.weights), strict=True))
    assert found == pytest.approx(CLOSENESS, abs=0.0006)


def test_weighted_sums_are_those_of_a_sum_written_out():
    matrix = matrix_of(problem([(10, 100), (20, 300), (15, 200)], [3, 1], (1,)))
    # min-max by hand: 0, 1, 0.5 and, as less is better, 1, 0, 0.5; weights 0.75 and 0.25
    assert score(matrix, matrix.weights) == pytest.approx([0.25, 0.75, 0.5])


def best_with(matrix: Matrix, criterion: int, weights: list[float]) -> list[set[int]]:
    """Who is best when a criterion has other weights, the others in proportion."""
    rest = np.delete(matrix.weights, criterion)
    rest = rest / rest.sum() if rest.sum() > 0 else np.full(rest.size, 1 / rest.size)
    scores = score(matrix, np.array([np.insert(rest * (1 - weight), criterion, weight) for weight in weights]))
    return [set(np.flatnonzero(row >= row.max() - 1e-9).tolist()) for row in scores]


@pytest.mark.parametrize(("method", "normalisation"), [(m, n) for m in Method for n in Normalisation], ids=str)
@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=2, max_size=5),
    weights=st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any),
    costs=st.sets(st.integers(0, 2)),
)
def test_the_smallest_change_that_makes_another_the_best_is_that_of_a_search(
    rows, weights, costs, method, normalisation
):
    matrix = matrix_of(problem(rows, weights, tuple(costs), method, normalisation))
    winner = int(order_of(score(matrix, matrix.weights))[0])
    grid = np.linspace(0, 1, 101)
    for criterion, turn in enumerate(turns(matrix, winner)):
        now = float(matrix.weights[criterion])
        others = [
            weight for weight, best in zip(grid, best_with(matrix, criterion, grid), strict=True) if winner not in best
        ]
        nearest = min((abs(weight - now) for weight in others), default=math.inf)
        if turn is None:
            assert nearest == math.inf
            continue
        assert abs(turn.weight - now) <= nearest + 1e-6  # no weight of the grid does it sooner
        points = [turn.weight, max(turn.weight - 1e-4, 0), min(turn.weight + 1e-4, 1)]
        there, *beyond = best_with(matrix, criterion, points)
        assert {turn.winner, winner} <= there  # there they are equal
        assert any(turn.winner in each for each in beyond)


def test_an_overtaking_that_is_known_is_found_exactly():
    # a0 = (1, 0), a1 = (0, 1): a0 leads while the first weight is above one half.
    found = turns(matrix_of(problem([(1, 0), (0, 1)], [0.8, 0.2])), 0)
    assert [turn.winner for turn in found] == [1, 1]
    assert [turn.weight for turn in found] == pytest.approx([0.5, 0.5])
    assert turns(matrix_of(problem([(2, 2), (1, 1)], [0.8, 0.2])), 0) == [None, None]


def test_the_order_holds_where_one_is_better_in_everything_and_wavers_where_two_are_close():
    sure = stability(matrix_of(problem([(2, 2), (1, 1)], [1, 1])), variation=0.5, trials=500, seed=1)
    assert sure.first.tolist() == [1.0, 0.0]
    assert (sure.best.tolist(), sure.worst.tolist()) == ([1, 2], [1, 2])
    close = matrix_of(problem([(1, 0), (0, 1)], [1.01, 1]))
    wavering = stability(close, variation=0.2, trials=4000, seed=1)
    assert 0.45 < wavering.first[1] < 0.5
    assert wavering.worst.tolist() == [2, 2]
    again = stability(close, variation=0.2, trials=4000, seed=1)
    assert again.first.tolist() == wavering.first.tolist()
    assert stability(close, variation=0.2, trials=4000, seed=2).first.tolist() != wavering.first.tolist()


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("normalisation", Normalisation)
def test_what_says_nothing_changes_nothing(method, normalisation):
    made = problem([(5, 0, 3), (5, 0, 7)], [1, 1, 1], (), method, normalisation)
    matrix = matrix_of(made)
    assert order_of(score(matrix, matrix.weights)).tolist() == [1, 0]
    alone = matrix_of(problem([(5, 0)], [1, 0], (), method, normalisation))
    assert np.isfinite(score(alone, alone.weights)).all()
    assert turns(alone, 0) == [None, None]


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("normalisation", Normalisation)
def test_huge_and_tiny_values_do_not_overflow(method, normalisation):
    matrix = matrix_of(problem([(1e308, 5e-324), (-1e308, 0)], [1e-300, 1e-300], (), method, normalisation))
    assert order_of(score(matrix, matrix.weights)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (problem([(math.nan,), (1,)], [1]), "alternatives[0].values[c0]"),
        (problem([(1,), (math.inf,)], [1]), "alternatives[1].values[c0]"),
        (problem([(1, 1)], [0, 0]), "criteria"),
        (problem([(1, 1)], [1, -1]), "criteria[1].weight"),
        (problem([(1,)] * 16385, [1]), "alternatives"),
        (Problem((Criterion("a", 1), Criterion("a", 1)), ("x",), ((1, 1),)), "criteria[1].name"),
        (Problem((Criterion("a", 1),), ("x", "x"), ((1,), (1,))), "alternatives[1].name"),
    ],
)
def test_what_cannot_be_ordered_is_refused_by_its_field(made, field):
    with pytest.raises(InvalidError) as refused:
        matrix_of(made)
    assert refused.value.violations[0].field == field


async def test_an_answer_says_place_parts_and_reason():
    criteria = [
        pb.Criterion(name="price", weight=2, direction=pb.Criterion.COST),
        pb.Criterion(name="speed", weight=1),
        pb.Criterion(name="age", weight=0),
    ]
    rows = {
        "slow": {"price": 10, "speed": 1, "age": 3},
        "fast": {"price": 30, "speed": 9, "age": 9},
        "twin": {"price": 10, "speed": 1, "age": 1},
    }
    answer = await RankingServicer().Rank(request(rows, criteria), None)
    assert [(each.name, each.place) for each in answer.ranked] == [("slow", 1), ("twin", 1), ("fast", 3)]
    slow = answer.ranked[0]
    assert slow.score == pytest.approx(sum(part.contribution for part in slow.contributions)) == pytest.approx(2 / 3)
    assert [part.contribution for part in slow.contributions] == pytest.approx([2 / 3, 0, 0])
    assert "equally good" in answer.text
    price, _, age = answer.sensitivities
    assert (price.changes, price.new_winner) == (True, "fast")
    assert price.new_weight == pytest.approx(0.5)
    # with age weighing w: (1 - w) 2/3 + w/4 is slow's score, (1 - w)/3 + w is fast's
    assert (age.new_winner, age.new_weight) == ("fast", pytest.approx(4 / 13))


async def test_topsis_shows_distances_and_a_missing_or_stray_value_is_named():
    criteria = [pb.Criterion(name="a", weight=1), pb.Criterion(name="b", weight=1)]
    good = {"x": {"a": 1, "b": 2}, "y": {"a": 2, "b": 1}}
    answer = await RankingServicer().Rank(request(good, criteria, method=pb.RankRequest.TOPSIS), None)
    for each in answer.ranked:
        best = math.hypot(*(part.distance_to_best for part in each.contributions))
        worst = math.hypot(*(part.distance_to_worst for part in each.contributions))
        assert each.score == pytest.approx(worst / (best + worst))
    for values, field in (({"a": 1}, "values[b]"), ({"a": 1, "b": 1, "c": 1}, "values[c]")):
        with pytest.raises(InvalidError, match="alternatives") as refused:
            await RankingServicer().Rank(request({"x": values}, criteria), None)
        assert refused.value.violations[0].field == f"alternatives[0].{field}"
    many = {f"a{at}": {"a": 1.0, "b": at} for at in range(1024)}
    with pytest.raises(InvalidError, match="trial_count"):
        await RankingServicer().Rank(request(many, criteria, trial_count=10000), None)
