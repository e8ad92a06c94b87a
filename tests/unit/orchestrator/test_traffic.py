"""Shares of new runs: they come out as asked for, agree with themselves, and go back."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidError
from orchestrator.errors import NoEarlierRevisionError
from orchestrator.traffic import Target, check_traffic, pick_revision, rolled_back

RUNS = [f"tenants/default/agents/a/runs/20260101-120000-{number:010x}" for number in range(20_000)]


@pytest.mark.parametrize("shares", [(90, 10), (50, 50), (1, 99), (33, 33, 34), (0, 100), (100,)])
def test_runs_are_spread_as_the_shares_say(shares):
    targets = [Target(number, percent) for number, percent in enumerate(shares, 1)]
    counts = dict.fromkeys(range(1, len(shares) + 1), 0)
    for run in RUNS:
        counts[pick_revision(targets, 9, run)] += 1
    for target in targets:
        expected = len(RUNS) * target.percent / 100
        allowed = 4 * (len(RUNS) * target.percent / 100 * (1 - target.percent / 100)) ** 0.5  # four sigma
        assert abs(counts[target.revision] - expected) <= allowed, counts


def test_a_run_gets_the_same_revision_however_often_it_is_asked_for():
    targets = [Target(1, 50), Target(2, 50)]
    assert [pick_revision(targets, 2, run) for run in RUNS[:500]] == [
        pick_revision(targets, 2, run) for run in RUNS[:500]
    ]
    assert pick_revision((), 7, RUNS[0]) == 7


def test_a_larger_share_moves_runs_one_way_only():
    """What went to the second revision at 10% goes there at 30% too, so that nothing flaps while a canary grows."""
    few = {run for run in RUNS if pick_revision([Target(2, 10), Target(1, 90)], 2, run) == 2}
    more = {run for run in RUNS if pick_revision([Target(2, 30), Target(1, 70)], 2, run) == 2}
    assert few < more


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ([Target(1, 50)], "make 50"),
        ([Target(1, 60), Target(2, 60)], "make 120"),
        ([Target(1, 50), Target(1, 50)], "twice"),
        ([Target(4, 100)], "no revision r4"),
        ([Target(0, 100)], "no revision r0"),
    ],
)
def test_what_is_no_share_is_refused(targets, says):
    with pytest.raises(InvalidError, match=says):
        check_traffic(targets, 3)


def test_going_back_is_to_the_one_before_or_to_the_one_that_is_named():
    assert rolled_back((), 3, None) == (Target(2, 100),)
    assert rolled_back((Target(2, 90), Target(3, 10)), 3, None) == (Target(2, 100),)
    assert rolled_back((Target(2, 100),), 3, None) == (Target(1, 100),)
    assert rolled_back((), 3, 1) == (Target(1, 100),)
    with pytest.raises(NoEarlierRevisionError):
        rolled_back((Target(1, 100),), 3, None)
    with pytest.raises(InvalidError):
        rolled_back((), 3, 4)
