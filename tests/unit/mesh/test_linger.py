"""How long batches linger: a moment after a quiet time, longer while things keep coming, never longer than said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.linger import Linger


def test_the_first_batch_after_a_quiet_time_lingers_for_a_moment():
    linger = Linger(0.25, 1.0)
    assert linger.next_s(0.0) == 0.5
    assert linger.next_s(30.0) == 0.25
    assert linger.next_s(0.25) == 0.25


def test_batches_linger_twice_as_long_each_time_while_things_keep_coming():
    linger = Linger(0.2, 1.0)
    assert [linger.next_s(0.01) for _ in range(5)] == [0.4, 0.8, 1.0, 1.0, 1.0]


@given(waits=st.lists(st.floats(min_value=0, max_value=100)))
def test_no_batch_lingers_for_less_or_longer_than_was_said(waits):
    linger = Linger(0.25, 1.0)
    assert all(0.25 <= linger.next_s(waited_s) <= 1.0 for waited_s in waits)
