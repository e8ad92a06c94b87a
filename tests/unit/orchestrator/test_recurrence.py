"""When schedules are due: cron, time zones whose clocks leap, intervals, ends; and what is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import InvalidError
from orchestrator.recurrence import Recurrence, check_recurrence, jitter_of

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def of(cron="", timezone="UTC", interval=0, **more):
    return Recurrence(cron, interval, timezone, more.pop("anchor", ANCHOR), **more)


def dues(recurrence, first, count):
    found, moment = [], at(first)
    while len(found) < count and (moment := recurrence.after(moment)) is not None:
        found.append(f"{moment:%m-%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("cron", "timezone", "first", "expected"),
    [
        ("30 6 * * MON-FRI", "UTC", "2026-01-02T06:30", ["01-05 06:30", "01-06 06:30"]),
        ("*/20 * * * *", "UTC", "2026-01-01T23:50", ["01-02 00:00", "01-02 00:20"]),
        ("0 0 29 2 *", "UTC", "2026-01-01", ["02-29 00:00"]),
        ("0 0 L * *", "UTC", "2026-01-01", ["01-31 00:00", "02-28 00:00"]),
        # Berlin leaps from 02:00 to 03:00 on 29 March 2026, at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:15", "03-30 00:45"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:20", ["03-29 00:30", "03-29 01:00", "03-29 01:30"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 01:00", "03-30 01:00"]),
        # Berlin shows 02:00 to 03:00 twice on 25 October 2026: from 00:00 and from 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", ["10-26 01:30"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:50",
         ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"]),
        # New York, both ways round.
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 07:00", "03-09 06:30"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 05:30", "11-02 06:30"]),
        # Lord Howe leaps by half an hour, from 02:00 to 02:30 on 4 October 2026, at 15:30 UTC the day before.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00", ["10-03 15:30", "10-04 15:15"]),
        # Apia had no 30 December 2011.
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", ["12-29 22:00", "12-30 10:00", "12-30 22:00"]),
        ("0 0 1 1 *", "Asia/Kathmandu", "2026-02-01T00:00", ["12-31 18:15"]),
    ],
)  # fmt: skip
def test_cron_is_due(cron, timezone, first, expected):
    assert dues(of(cron, timezone), first, len(expected)) == expected


CRONS = st.builds(
    "{} {} * * *".format,
    st.sampled_from(["*", "0", "15,45", "*/10", "59"]),
    st.sampled_from(["*", "1", "2", "0-3", "*/2", "23"]),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(CRONS, ZONES, MOMENTS)
@settings(deadline=None)
def test_due_times_only_go_forward_and_do_not_depend_on_where_one_begins_to_look(cron, timezone, moment):
    recurrence = of(cron, timezone)
    first = recurrence.after(moment)
    second = recurrence.after(first)
    assert moment < first < second
    between = moment + (first - moment) / 2
    if timezone == "UTC" or cron.split()[1] in ("*", "*/2"):
        assert recurrence.after(between) == first
    assert recurrence.after(between) in (first, second)


@given(MOMENTS, st.sampled_from(["Europe/Berlin", "America/New_York"]))
@settings(deadline=None)
def test_once_a_day_is_once_a_day_whatever_the_clocks_do(moment, timezone):
    found = list(itertools.islice(of("30 2 * * *", timezone).between(moment, moment + timedelta(days=30)), 40))
    assert len(found) in (29, 30, 31)
    assert all(timedelta(hours=22) < later - one < timedelta(hours=26) for one, later in itertools.pairwise(found))


def test_an_interval_is_counted_from_its_anchor_in_both_directions():
    every = of(interval=90)
    assert every.after(ANCHOR) == ANCHOR + timedelta(seconds=90)
    assert every.after(ANCHOR - timedelta(seconds=1)) == ANCHOR
    assert every.after(ANCHOR - timedelta(seconds=91)) == ANCHOR - timedelta(seconds=90)
    assert every.after(ANCHOR + timedelta(seconds=100)) == ANCHOR + timedelta(seconds=180)
    assert every.after(datetime.max.replace(tzinfo=UTC)) is None


def test_nothing_is_due_before_the_first_or_after_the_last_time():
    bounded = of("0 * * * *", first=at("2026-01-01T02:00"), last=at("2026-01-01T04:00"))
    assert dues(bounded, "2025-06-01", 9) == ["01-01 02:00", "01-01 03:00", "01-01 04:00"]
    assert list(bounded.between(at("2026-01-01T03:00"), at("2026-02-01T00:00"))) == [
        at("2026-01-01T03:00"),
        at("2026-01-01T04:00"),
    ]


@pytest.mark.parametrize(
    ("recurrence", "says"),
    [
        (of(), "exactly one"),
        (of("* * * * *", interval=5), "exactly one"),
        (of("* * * *"), "five fields"),
        (of("0 * * * * *"), "five fields"),
        (of("60 * * * *"), "minute"),
        (of("* * * * XYZ"), "day-of-week"),
        (of("* * * * 1/1/1"), "no cron"),
        (of("0 0 31 2 *"), "cron"),
        (of("1," * 120 + "x * * * *"), "minute"),
        (of("* * * * *", "Europe/Nowhere"), "IANA"),
        (of("* * * * *", "../../etc/passwd"), "IANA"),
        (of("* * * * *", "/etc/localtime"), "IANA"),
        (of("* * * * *", "America"), "IANA"),
        (of("* * * * *", "\x00"), "IANA"),
        (of("* * * * *", first=at("2026-02-01"), last=at("2026-01-01")), "before"),
    ],
)
def test_what_can_never_be_due_is_refused(recurrence, says):
    with pytest.raises(InvalidError, match=says):
        check_recurrence(recurrence)


def test_jitter_is_less_than_asked_for_and_the_same_for_the_same_time():
    spread = [jitter_of("s", ANCHOR + timedelta(minutes=n), 60) for n in range(200)]
    assert spread == [jitter_of("s", ANCHOR + timedelta(minutes=n), 60) for n in range(200)]
    assert all(timedelta() <= each < timedelta(seconds=60) for each in spread)
    assert max(spread) > timedelta(seconds=50)
    assert len(set(spread)) > 190
    assert jitter_of("s", ANCHOR, 0) == timedelta()
