"""The queue: whose turn it is, what goes together, when it goes, and what finds no place."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import QueueFullError
from engine.scheduler.lanes import Waiting
from engine.scheduler.policy import BatchPolicy, Level
from engine.scheduler.queue import RequestQueue


def made(**how):
    return RequestQueue(BatchPolicy(**{"max_rows": 4, "max_waiting": 100_000, **how}))


def put(queue, rows=1, *, key=None, owner="", level=0, since=0.0, length=0, size=0):
    waiting = Waiting(rows, key, owner, level, since, length, size)
    queue.put(waiting)
    return waiting


def owners(cut):
    return [waiting.owner for waiting in cut.members]


def cuts(queue, now=0.0):
    while (cut := queue.cut(now)) is not None:
        yield cut


class TestFairness:
    def test_a_flood_of_one_owner_costs_another_no_more_than_the_batch_under_way(self):
        queue = made(max_rows=32, max_waiting=20_000)
        for _ in range(10_000):
            put(queue, owner="flood")
        queue.cut(0.0)
        late = put(queue, owner="late")
        assert queue.cut(0.0).members[0] is late

    def test_owners_share_a_batch_row_by_row_whatever_they_sent_first(self):
        queue = made(max_rows=6)
        for owner in "aaaaaaaabbbbc":
            put(queue, owner=owner)
        assert sorted(owners(queue.cut(0.0))) == ["a", "a", "a", "b", "b", "c"]

    def test_shares_are_of_rows_not_of_requests(self):
        queue = made(max_rows=8)
        for _ in range(100):
            put(queue, 8, owner="large")
        for _ in range(800):
            put(queue, owner="small")
        served = {"large": 0, "small": 0}
        for _, cut in zip(range(60), cuts(queue), strict=False):
            for waiting in cut.members:
                served[waiting.owner] += waiting.rows
        assert abs(served["large"] - served["small"]) <= 8

    def test_shares_hold_over_keys_that_are_never_computed_together(self):
        queue = made()
        for _ in range(50):
            put(queue, owner="flood", key=object())
        put(queue, owner="late", key=object())
        assert "late" in [owners(queue.cut(0.0))[0] for _ in range(2)]

    def test_who_was_away_gains_nothing_by_it(self):
        queue = made(max_rows=1)
        for _ in range(40):
            put(queue, owner="steady")
        for _ in range(20):
            queue.cut(0.0)
        for _ in range(40):
            put(queue, owner="back")
        order = "".join(owners(queue.cut(0.0))[0][0] for _ in range(20))
        assert abs(order.count("s") - order.count("b")) <= 2

    def test_one_owners_requests_keep_their_order(self):
        queue = made(max_rows=3)
        asked = [put(queue, owner="abc"[at % 3]) for at in range(30)]
        gone = [waiting for cut in cuts(queue) for waiting in cut.members]
        for owner in "abc":
            assert [w for w in gone if w.owner == owner] == [w for w in asked if w.owner == owner]


class TestPriorities:
    def test_the_most_urgent_go_first_and_take_the_others_along_where_there_is_room(self):
        queue = made(levels=(Level(), Level()))
        later = [put(queue, level=1) for _ in range(4)]
        urgent = [put(queue, level=0) for _ in range(3)]
        assert queue.cut(0.0).members == [*urgent, later[0]]

    def test_what_is_least_urgent_waits_through_nine_cuts_at_most(self):
        queue = made(max_rows=1, levels=(Level(), Level(), Level()))
        late = put(queue, level=2)
        cut = None
        for number in range(1, 12):
            put(queue, level=0)
            put(queue, level=0)
            if late in queue.cut(0.0).members:
                cut = number
                break
        assert cut == 10

    def test_every_level_gets_its_turn_under_a_flood_of_urgent_work(self):
        queue = made(max_rows=1, levels=tuple(Level() for _ in range(4)))
        for level in (1, 2, 3):
            for _ in range(50):
                put(queue, level=level)
        served = [0] * 4
        for _ in range(300):
            put(queue, level=0)
            served[queue.cut(0.0).members[0].level] += 1
        assert served == [270, 10, 10, 10]


class TestDelay:
    def test_nothing_is_cut_before_it_is_over_and_then_everything_is(self):
        queue = made(max_delay_s=0.01)
        asked = [put(queue, since=since) for since in (1.0, 1.005)]
        assert queue.cut(1.0) is None
        assert queue.wait_s(1.004) == pytest.approx(0.006)
        cut = queue.cut(1.01)
        assert (cut.members, cut.reason) == (asked, "delay")

    def test_a_full_batch_waits_for_nothing(self):
        queue = made(max_delay_s=0.01)
        for _ in range(5):
            put(queue, since=1.0)
        assert queue.wait_s(1.0) == 0
        cut = queue.cut(1.0)
        assert (len(cut.members), cut.reason) == (4, "full")
        assert queue.cut(1.0) is None

    def test_a_preferred_size_goes_at_once_and_the_largest_that_is_there(self):
        queue = made(max_rows=8, max_delay_s=0.01, preferred_rows=(2, 4))
        for _ in range(5):
            put(queue, since=1.0)
        cut = queue.cut(1.0)
        assert (len(cut.members), cut.reason) == (4, "preferred")
        assert queue.cut(1.0) is None

    def test_a_full_group_goes_before_one_that_others_are_waited_for(self):
        queue = made(max_delay_s=1.0)
        put(queue, since=1.0, key="early")
        full = [put(queue, since=1.1, key="full") for _ in range(4)]
        assert queue.cut(1.2).members == full
        assert queue.wait_s(1.2) == pytest.approx(0.8)

    def test_once_the_queue_is_closed_nothing_is_waited_for(self):
        queue = made(max_delay_s=10.0)
        first = put(queue, since=1.0)
        queue.close()
        put(queue, since=2.0)  # a piece of what has begun
        assert queue.oldest() is first
        assert queue.wait_s(1.0) == 0
        assert queue.cut(1.0).reason == "closing"


class TestLengths:
    def test_those_of_like_length_go_together_and_the_others_do_not(self):
        queue = made(max_rows=32)
        long, short = [put(queue, length=128) for _ in range(3)], [put(queue, length=8) for _ in range(3)]
        assert [cut.members for cut in cuts(queue)] == [long, short]

    def test_a_few_that_are_a_little_shorter_or_longer_go_along(self):
        queue = made(max_rows=32)
        for length in (64, 56, 60, 70):
            put(queue, length=length)
        assert len(queue.cut(0.0).members) == 4

    def test_a_batch_has_no_more_places_than_it_may_however_many_rows_it_may_have(self):
        queue = made(max_rows=32, max_padded=256)
        for _ in range(10):
            put(queue, length=100)
        cut = queue.cut(0.0)
        assert (len(cut.members), cut.reason) == (2, "full")

    @given(st.lists(st.integers(1, 2000), min_size=1, max_size=60))
    def test_padding_costs_no_more_than_the_runs_it_saves(self, lengths):
        queue = made(max_rows=16)
        for length in lengths:
            put(queue, length=length)
        for cut in cuts(queue):
            width = max(waiting.length for waiting in cut.members)
            groups: dict[int, int] = {}
            for waiting in cut.members:
                bucket = queue._policy.bucket_of(waiting.length)
                groups[bucket] = groups.get(bucket, 0) + 1
            longest = dict.fromkeys(groups, 0)
            for waiting in cut.members:
                bucket = queue._policy.bucket_of(waiting.length)
                longest[bucket] = max(longest[bucket], waiting.length)
            padding = sum((width - longest[bucket]) * rows for bucket, rows in groups.items())
            assert padding <= (len(groups) - 1) * queue._policy.run_places


class TestRoom:
    def test_what_is_too_many_or_too_large_finds_no_place(self):
        queue = made(max_waiting=3)
        for _ in range(3):
            put(queue)
        with pytest.raises(QueueFullError, match="3 requests wait"):
            put(queue)
        queue = made(max_waiting_bytes=100)
        put(queue, size=1000)  # alone, whatever its size
        with pytest.raises(QueueFullError, match="1000 bytes"):
            put(queue, size=1)

    def test_a_level_has_its_own_bound(self):
        queue = made(levels=(Level(), Level(max_waiting=1)))
        put(queue, level=1)
        put(queue, level=0)
        with pytest.raises(QueueFullError, match="priority 2"):
            put(queue, level=1)

    def test_one_owner_leaves_a_share_for_every_other(self):
        queue = made(max_waiting=900, max_waiting_bytes=900)
        taken = {}
        for owner in "abc":
            with pytest.raises(QueueFullError, match="kept for others"):
                for at in range(1000):
                    taken[owner] = at
                    put(queue, owner=owner, size=1)
        assert taken["a"] == 800
        assert taken["b"] >= 80
        assert taken["c"] >= 8

    def test_places_are_free_again_once_requests_are_cut_or_go(self):
        queue = made(max_waiting=2, max_waiting_bytes=10)
        for _ in range(50):
            first, _ = put(queue, owner="a", size=5), put(queue, owner="b", size=5)
            assert queue.remove(first)
            assert not queue.remove(first)
            assert len(queue.cut(0.0).members) == 1
        assert queue.wait_s(0.0) is None


def test_requests_that_come_and_go_while_nothing_is_cut_leave_nothing_behind():
    queue = made(max_delay_s=1.0)
    put(queue, owner="stays", since=0.0)
    for at in range(1000):
        queue.remove(put(queue, owner=f"o{at % 7}", key=at % 5))
    tracemalloc.start()
    for at in range(20_000):
        queue.remove(put(queue, owner=f"o{at % 7}", key=at % 5))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 500_000


def test_a_run_beside_another_takes_its_part_and_one_large_request_whole():
    queue = made(max_rows=8)
    for _ in range(6):
        put(queue)
    put(queue, 5)
    assert [(len(cut.members), cut.reason) for cut in (queue.cut(0.0, 4), queue.cut(0.0, 1))] == [
        (4, "idle"),
        (1, "idle"),
    ]
    assert [waiting.rows for waiting in queue.cut(0.0, 1).members] == [1]
    assert [waiting.rows for waiting in queue.cut(0.0, 2).members] == [5]


class TestOvertaking:
    def riders(self, queue, *since):
        return [put(queue, length=16, since=at) for at in since]

    def test_beside_a_run_few_overtake_one_of_another_length(self):
        queue = made(max_rows=32)
        first, soon = self.riders(queue, 0.0, 2.0)
        other = put(queue, length=128, since=3.0)
        little, much = self.riders(queue, 4.4, 4.6)
        assert queue.cut(9.0, 32).members == [first, soon, little]
        assert queue.cut(9.0, 32).members == [other]
        assert queue.cut(9.0, 32).members == [much]

    def test_what_others_of_another_length_wait_for_is_short(self):
        queue = made(max_rows=64, run_places=32)
        (first,) = self.riders(queue, 0.0)
        other = put(queue, length=128)
        many = self.riders(queue, *[0.0] * 40)
        assert queue.cut(9.0, 64).members == [first, *many[:23]]  # 24 rows of 16 places: 12 times what a run costs
        assert queue.cut(9.0, 64).members == [other]
        assert queue.cut(9.0, 64).members == many[23:]

    def test_a_model_whose_runs_cost_nothing_besides_has_no_such_bound(self):
        queue = made(max_rows=64, run_places=0)
        (first,) = self.riders(queue, 0.0)
        other = put(queue, length=128)
        many = self.riders(queue, *[0.0] * 40)
        assert [queue.cut(9.0, 64).members for _ in range(2)] == [[first, *many], [other]]

    def test_where_nobody_is_overtaken_all_go_together(self):
        queue = made(max_rows=32)
        alike = self.riders(queue, 0.0, 1.0, 8.0, 9.0)
        other = put(queue, length=128, since=9.5)
        assert [queue.cut(10.0, 32).members for _ in range(2)] == [alike, [other]]

    def test_a_run_alone_takes_everybody_along(self):
        queue = made(max_rows=32)
        first, other, last = put(queue, length=16), put(queue, length=128), put(queue, length=16, since=9.0)
        assert [queue.cut(9.0).members for _ in range(2)] == [[first, last], [other]]

    def test_it_ends_at_its_rows_as_ever_and_counts_what_is_left(self):
        queue = made(max_rows=32)
        alike = self.riders(queue, *range(6))
        other = put(queue, length=128, since=6.0)
        assert [queue.cut(9.0, 4).members for _ in range(3)] == [alike[:4], alike[4:], [other]]
        assert (len(queue), queue.rows) == (0, 0)


OWNERS, KEYS = st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["k", "l"])
PUT = st.tuples(st.just("put"), st.integers(1, 6), OWNERS, KEYS, st.integers(0, 2), st.sampled_from([0, 3, 40, 500]))
CUT = st.tuples(st.just("cut"), st.integers(0, 4))
STEPS = st.lists(PUT | PUT | st.tuples(st.just("remove"), st.integers(0, 99)) | CUT | st.just(("later",)), max_size=80)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([0.0, 2.0]), st.sampled_from([(), (2,), (2, 4)]), st.sampled_from([0, 60]))
def test_whatever_comes_and_goes_everything_is_cut_once_in_batches_that_fit(steps, delay_s, preferred, max_padded):
    policy = BatchPolicy(
        4, 50, 1000, max_padded, max_delay_s=delay_s, preferred_rows=preferred, levels=(Level(), Level(), Level())
    )
    queue: RequestQueue[Waiting] = RequestQueue(policy)
    inside: dict[Waiting, None] = {}
    now = 0.0

    def cut(most_rows: int = 0) -> None:
        found = queue.cut(now, most_rows)
        assert (found is None) == (queue_wait != 0)
        if found is None:
            return
        members = found.members
        assert {member.key for member in members} == {members[0].key}
        rows, width = sum(member.rows for member in members), max(member.length for member in members)
        assert len(members) == 1 or (rows <= 4 and (not max_padded or rows * width <= max_padded))
        for member in members:
            del inside[member]

    for step in steps:
        if step[0] == "put":
            waiting = Waiting(step[1], step[3], step[2], step[4], now, step[5], step[1])
            queue.put(waiting)
            inside[waiting] = None
        elif step[0] == "remove" and inside:
            gone = list(inside)[step[1] % len(inside)]
            assert queue.remove(gone)
            del inside[gone]
        elif step[0] == "later":
            now += 1.0
        else:
            queue_wait = queue.wait_s(now)
            cut(step[1] if step[0] == "cut" else 0)
        assert len(queue) == len(inside)
        assert queue.rows == sum(waiting.rows for waiting in inside)
        oldest = queue.oldest()
        assert (oldest and oldest.since) == (next(iter(inside)).since if inside else None)
    queue.close()
    while (queue_wait := queue.wait_s(now)) is not None:
        assert queue_wait == 0
        cut()
    assert not inside
