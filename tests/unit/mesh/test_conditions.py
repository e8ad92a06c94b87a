"""Times of day and week: time zones, windows over midnight, clocks put forward, until when an answer is good."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import inf
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.conditions import holds_when, known_time_zone, why_not
from mesh.snapshot import Binding, Condition, TimeWindow


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def binding(*windows: TimeWindow, start: float = 0.0, expire: float = 0.0) -> Binding:
    condition = Condition(windows) if windows else None
    return Binding("b", "", "r", "tenants/a", "p", False, start, expire, condition)


OFFICE = TimeWindow((1, 2, 3, 4, 5), "08:00", "18:00", "Europe/Berlin")
NIGHT = TimeWindow((5,), "22:00", "06:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        (OFFICE, "2026-07-06T08:00", True),
        (OFFICE, "2026-07-06T07:59", False),
        (OFFICE, "2026-07-06T17:59", True),
        (OFFICE, "2026-07-06T18:00", False),
        (OFFICE, "2026-07-05T12:00", False),  # a Sunday
        (NIGHT, "2026-07-03T22:00", True),  # a Friday
        (NIGHT, "2026-07-04T05:59", True),  # it began on Friday
        (NIGHT, "2026-07-04T06:00", False),
        (NIGHT, "2026-07-04T23:00", False),
        (TimeWindow((), "", "", "Europe/Berlin"), "2026-07-04T23:00", True),
        (TimeWindow((6,), "", "24:00", "Europe/Berlin"), "2026-07-04T23:59", True),
        (TimeWindow((6,), "", "24:00", "Europe/Berlin"), "2026-07-05T00:00", False),
        (TimeWindow((), "02:00", "03:00", "Europe/Berlin"), "2026-03-29T03:30", False),  # the hour that was not
    ],
)
def test_a_window_is_open_at_its_times(window, moment, inside):
    holds = holds_when(binding(window))
    assert holds is not None
    assert holds(at(moment, "Europe/Berlin"))[0] is inside


def test_what_always_holds_is_not_asked():
    assert holds_when(binding()) is None
    assert why_not(binding(), 0.0) == ""


def test_start_and_end_bound_it_and_say_when_that_changes():
    holds = holds_when(binding(start=10.0, expire=20.0))
    assert holds is not None
    assert [holds(now) for now in (9.0, 10.0, 19.9, 20.0)] == [(False, 10.0), (True, 20.0), (True, 20.0), (False, inf)]
    assert "from 1970-01-01T00:00:10" in why_not(binding(start=10.0), 9.0)
    assert "expired at 1970-01-01T00:00:20" in why_not(binding(expire=20.0), 20.0)


windows = st.builds(
    TimeWindow,
    st.sets(st.integers(1, 7)).map(lambda days: tuple(sorted(days))),
    st.sampled_from(["", "00:00", "08:00", "22:30"]),
    st.sampled_from(["", "24:00", "06:00", "08:00", "18:15"]),
    st.sampled_from(["", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia"]),
)


@given(window=windows, begin=st.integers(1_700_000_000, 1_800_000_000), steps=st.integers(1, 40))
def test_an_answer_is_good_until_it_says(window, begin, steps):
    """Between two boundaries nothing changes: a fresh look in between finds the same."""
    holds = holds_when(binding(window))
    assert holds is not None
    now = float(begin)
    for _ in range(steps):
        inside, until = holds(now)
        assert until > now
        for share in (0.01, 0.5, 0.999):
            fresh = holds_when(binding(window))
            assert fresh is not None
            assert fresh(now + (until - now) * share)[0] is inside
        now = until


@given(window=windows, begin=st.integers(1_700_000_000, 1_800_000_000))
def test_a_window_says_what_a_calendar_says(window, begin):
    """Minute by minute over two days, by the clock on the wall."""
    holds = holds_when(binding(window))
    zone = ZoneInfo(window.time_zone or "UTC")
    days = set(window.days) or set(range(1, 8))
    start, end = window.start or "00:00", "00:00" if window.end in ("", "24:00") else window.end
    for minute in range(0, 2880, 17):
        now = float(begin - begin % 60 + minute * 60)
        wall = datetime.fromtimestamp(now, zone)
        if wall.utcoffset() != datetime.fromtimestamp(now - 90_000, zone).utcoffset() or wall.fold:
            continue  # around a change of the clocks walls are no witness
        if wall.utcoffset() != datetime.fromtimestamp(now + 90_000, zone).utcoffset():
            continue
        clock, today, yesterday = f"{wall:%H:%M}", wall.isoweekday(), (wall - timedelta(days=1)).isoweekday()
        if end > start:
            expected = today in days and start <= clock < end
        else:
            expected = (today in days and clock >= start) or (yesterday in days and clock < end)
        assert holds is not None
        assert holds(now)[0] is expected, (wall, window)


def test_time_zones_that_are_none_are_not_known():
    assert known_time_zone("")
    assert known_time_zone("Europe/Berlin")
    for name in ("Europe/Nowhere", "../etc/passwd", "/etc/passwd", "\0", "x" * 300):
        assert not known_time_zone(name)
