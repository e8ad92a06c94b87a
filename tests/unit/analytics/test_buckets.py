"""Buckets of time: where they begin, which ones a range touches, which granularity fits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.buckets import MAX_BUCKETS, Granularity, span_of
from analytics.errors import QueryTooLargeError
from mesh.errors import InvalidError

MOMENTS = st.integers(0, 4_000_000_000)


@given(MOMENTS, st.sampled_from(Granularity))
def test_a_moment_lies_in_its_bucket_and_buckets_begin_at_full_units_in_utc(moment: int, granularity: Granularity):
    bucket = granularity.floor(moment)
    assert bucket <= moment < bucket + granularity.seconds
    begins = datetime.fromtimestamp(bucket, UTC)
    assert begins.second == 0
    assert granularity is Granularity.MINUTE or begins.minute == 0
    assert granularity is not Granularity.DAY or begins.hour == 0


@given(MOMENTS, st.integers(1, MAX_BUCKETS * 60 - 120), st.sampled_from(Granularity))
def test_a_span_is_the_least_of_whole_buckets_that_holds_the_range(start: int, length: int, granularity: Granularity):
    span = span_of(start, start + length, granularity)
    assert span.start_s <= start < span.start_s + granularity.seconds
    assert span.end_s - granularity.seconds < start + length <= span.end_s
    assert span.buckets * granularity.seconds == span.end_s - span.start_s


@pytest.mark.parametrize(
    ("length_s", "expected"),
    [
        (1, Granularity.MINUTE),
        (86400, Granularity.MINUTE),
        (86401, Granularity.HOUR),
        (60 * 86400, Granularity.HOUR),
        (60 * 86400 + 1, Granularity.DAY),
    ],
)
def test_the_finest_granularity_that_fits_is_chosen(length_s: int, expected: Granularity):
    assert span_of(0, length_s, None).granularity is expected


def test_a_range_that_ends_before_it_begins_is_refused():
    with pytest.raises(InvalidError, match="end_time"):
        span_of(100, 100, None)


def test_a_range_of_too_many_buckets_is_refused_and_says_what_to_do():
    with pytest.raises(QueryTooLargeError, match="coarser granularity"):
        span_of(0, MAX_BUCKETS * 60 + 1, Granularity.MINUTE)
    assert span_of(0, MAX_BUCKETS * 60, Granularity.MINUTE).buckets == MAX_BUCKETS


def test_the_end_of_time_is_refused_as_too_much_not_as_a_mistake_of_ours():
    with pytest.raises(QueryTooLargeError):
        span_of(-62_135_596_800, 253_402_300_799, None)
