"""Schedules: one run for each due time, whoever looks, whatever crashes, however long nobody looked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mesh.catalogue import NotFoundError
from mesh.errors import Code, InvalidError, TiationError
from orchestrator.errors import ScheduleForbiddenError
from orchestrator.runs import NewEvent
from orchestrator.schedules import Schedule
from tests.fakes.background import running
from tests.unit.orchestrator.workplace import AGENT, ASKER, Workplace

FLOW = "do: [{s: {set: {x: 1}}}]"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
async def place(both):
    made = Workplace(both[0])
    await made.bring(FLOW)
    made.clock = NOON - MINUTE
    return made


async def look(place, clock=None):
    """Look until there is nothing more to do."""
    place.clock = clock or place.clock
    while not await place.scheduler.look():
        pass


async def times(place):
    return [f"{run.scheduled_time:%H:%M}" for run in await place.runs() if run.scheduled_time]


async def end(place, run_id=""):
    """End a run that waits, as an executor would."""
    name = run_id or (await place.runs())[-1].name
    now = datetime.now(UTC)

    def work(transaction):
        leases = place.rows.claim(transaction, "me", now, now + MINUTE, 10, (), 10)
        for lease in leases:
            place.rows.finish(transaction, lease, [NewEvent("RUN_SUCCEEDED")], "SUCCEEDED", None, None, now)

    await place.database.write(work)
    return name


async def test_a_run_is_started_at_its_time_and_not_before(place):
    name = await place.schedule(cron="0 * * * *", input={"a": 1}, input_time_field="at")
    await look(place)
    assert await times(place) == []
    assert (await place.standing()).next_time == NOON
    await look(place, NOON + timedelta(seconds=1))
    (run,) = await place.runs()
    assert (run.schedule, run.scheduled_time, run.requester) == (name, NOON, ASKER)
    assert run.input == {"a": 1, "at": "2026-03-01T12:00:00Z"}
    assert run.labels == {"team": "one", "schedule": "s", "scheduled-time": "2026-03-01T12:00:00Z"}
    now = await place.standing()
    assert (now.next_time, now.last_time, now.last_run, now.started) == (NOON + HOUR, NOON, run.name, 1)
    await look(place)
    assert len(await place.runs()) == 1


async def test_the_loop_fires_by_itself_and_close_to_the_time(place):
    place.scheduler._now = place.schedules._now = lambda: datetime.now(UTC)
    await place.schedule(interval=1, overlap_policy="ALLOW")
    async with running(place.scheduler.run):
        await asyncio.sleep(3.3)
    runs = await place.runs()
    assert len(runs) in (3, 4)
    late = [(run.create_time - run.scheduled_time).total_seconds() for run in runs]
    assert all(0 <= each < 0.9 for each in late), late


async def test_looks_are_seldom_where_nobody_else_changes_schedules_and_never_after_the_next_time(place):
    longest_s = 1.0 if place.database.is_shared else 5.0
    assert await place.scheduler.look() == longest_s
    await place.schedule(cron="0 * * * *")
    assert await place.scheduler.look() == longest_s
    place.clock = NOON - timedelta(seconds=0.5)
    assert await place.scheduler.look() == pytest.approx(0.5)


async def test_of_two_orchestrators_one_starts_the_run(both):
    places = [Workplace(database) for database in both]
    await places[0].bring(FLOW)
    for place in places:
        place.clock = NOON - MINUTE
    for number in range(3):
        await places[0].schedule(f"s{number}", cron="* * * * *", overlap_policy="ALLOW")
    for minute in range(6):
        for place in places:
            place.clock = NOON + minute * MINUTE + timedelta(seconds=1)
        await asyncio.gather(*(place.scheduler.look() for place in places for _ in range(3)))
    runs = await places[0].runs()
    assert len(runs) == len({(run.schedule, run.scheduled_time) for run in runs}) == 18
    assert sum([(await places[0].standing(f"s{number}")).started for number in range(3)]) == 18


CHILD = """
import asyncio, os, signal, sys
from datetime import datetime
from sqlalchemy import event
from mesh.db import open_database
from tests.unit.orchestrator.workplace import Workplace

url, at, clock = sys.argv[1], int(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
database = open_database(url)
place = Workplace(database)
place.clock = clock
seen = 0

@event.listens_for(database.engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    global seen
    if statement.lstrip()[:6] in ("UPDATE", "INSERT", "DELETE"):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

@event.listens_for(database.engine, "commit")
def committed(connection):
    global seen
    if seen:
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(place.scheduler.look())
print(seen)
"""


async def test_a_kill_at_any_write_neither_loses_a_run_nor_starts_it_twice(place):
    await place.schedule(cron="0 * * * *")
    url = place.database.engine.url.render_as_string(hide_password=False)
    root = Path(__file__).parents[3]
    killed = 0
    for at in range(1, 20):
        due = NOON + (at - 1) * HOUR
        clock = due + timedelta(seconds=1)
        child = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", CHILD, url, str(at), clock.isoformat()],
            capture_output=True, text=True, check=False, cwd=root, timeout=60,
        )  # fmt: skip
        assert child.returncode in (0, -9), child.stderr
        killed += child.returncode == -9
        await look(place, clock)
        runs = await place.runs()
        assert [run.scheduled_time for run in runs] == [NOON + number * HOUR for number in range(at)], at
        assert (await place.standing()).started == at
        await end(place)
        if child.returncode == 0:
            break
    assert killed >= 4, "the child was never killed in the middle"


async def test_an_earlier_run_that_goes_on_makes_the_next_one_skip(place):
    await place.schedule(cron="* * * * *")
    await look(place, NOON)
    await look(place, NOON + MINUTE)
    assert await times(place) == ["12:00"]
    assert (await place.standing()).skipped == 1
    await end(place)
    await look(place, NOON + 2 * MINUTE)
    assert await times(place) == ["12:00", "12:02"]


async def test_overlapping_runs_are_started_where_that_is_allowed(place):
    await place.schedule(cron="* * * * *", overlap_policy="ALLOW")
    for minute in range(3):
        await look(place, NOON + minute * MINUTE)
    assert await times(place) == ["12:00", "12:01", "12:02"]


async def test_one_run_waits_for_the_end_of_the_earlier_one_and_no_more(place):
    await place.schedule(cron="* * * * *", overlap_policy="BUFFER_ONE")
    for minute in range(4):
        await look(place, NOON + minute * MINUTE)
    now = await place.standing()
    assert (now.buffered_time, now.skipped) == (NOON + MINUTE, 2)
    assert await times(place) == ["12:00"]
    await end(place)
    await look(place)
    assert await times(place) == ["12:00", "12:01"]
    assert (await place.standing()).buffered_time is None


@pytest.mark.parametrize(
    ("policy", "window_s", "expected", "missed"),
    [
        ("LAST", 3600, ["12:29"], 29),
        ("LAST", 0, [], 30),
        ("NONE", 3600, [], 30),
        ("ALL", 300, ["12:26", "12:27", "12:28", "12:29"], 26),
        ("ALL", 86400, [f"12:{minute:02}" for minute in range(30)], 0),
    ],
)
async def test_what_was_missed_is_made_up_for_as_the_policy_says(place, policy, window_s, expected, missed):
    await place.schedule(cron="0-29 12 * * *", overlap_policy="ALLOW", catch_up_policy=policy, catch_up_window=window_s)
    await look(place, NOON + timedelta(minutes=30, seconds=30))
    assert await times(place) == expected
    now = await place.standing()
    assert (now.missed, now.next_time) == (missed, NOON + timedelta(days=1))


async def test_what_is_on_time_needs_no_making_up(place):
    await place.schedule(cron="*/10 * * * *", catch_up_policy="LAST")
    await look(place, NOON + timedelta(minutes=30, seconds=20))
    assert await times(place) == ["12:30"]
    assert (await place.standing()).missed == 3


async def test_a_year_without_an_orchestrator_is_over_soon(place):
    await place.schedule(interval=60, catch_up_policy="ALL", catch_up_window=120, overlap_policy="ALLOW")
    async with asyncio.timeout(20):
        await look(place, NOON + timedelta(days=365, seconds=30))
    assert len(await place.runs()) == 2


async def test_jitter_moves_the_run_and_not_its_time(place):
    await place.schedule(cron="0 * * * *", jitter=600)
    fire = (await place.standing()).fire_time
    assert NOON <= fire < NOON + timedelta(minutes=10)
    await look(place, fire - timedelta(seconds=1))
    assert await times(place) == []
    await look(place, fire)
    assert await times(place) == ["12:00"]


async def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing(place):
    name = await place.schedule(cron="0 * * * *", paused=True)
    assert (await place.standing()).next_time is None
    await look(place, NOON + 3 * HOUR)

    def resumed(entry):
        from dataclasses import replace

        import msgspec

        return replace(entry, body=msgspec.structs.replace(entry.body, paused=False))

    await place.schedules.update(Schedule, name, "", resumed)
    assert (await place.standing()).next_time == NOON + 4 * HOUR
    await look(place)
    assert await times(place) == []


async def test_a_revoked_requester_stops_it_visibly_until_the_right_is_back(place):
    await place.schedule(cron="0 * * * *")
    place.allowed = False
    await look(place, NOON)
    await look(place, NOON + HOUR)
    now = await place.standing()
    assert await times(place) == []
    assert (now.reason, now.blocked, now.since_time, now.next_time) == ("PERMISSION_DENIED", 2, NOON, NOON + 2 * HOUR)
    assert ASKER.subject in now.message
    with pytest.raises(ScheduleForbiddenError):
        await place.scheduler.trigger("tenants/default/schedules/s", "")
    place.allowed = True
    await look(place, NOON + 2 * HOUR)
    assert await times(place) == ["14:00"]
    assert (await place.standing()).reason == ""


class StaleError(TiationError):
    """Nobody knows now who may do what."""

    code = Code.UNAVAILABLE
    reason = "POLICY_STALE"


async def test_while_the_policy_is_stale_looks_are_as_seldom_as_ever_and_it_is_said_once_a_minute(place):
    for schedule in ("s", "t"):
        await place.schedule(schedule, cron="0 * * * *")

    def stale(*_):
        raise StaleError("security was not heard of")

    place.schedules._may = stale
    place.clock = NOON
    with capture_logs() as logs:
        pauses = [await place.scheduler.look() for _ in range(5)]
        assert min(pauses) >= 1.0
        assert [log["schedule"][-1] for log in logs] == ["s", "t"]
        place.clock = NOON + MINUTE
        await place.scheduler.look()
    assert [(log["event"], log["reason"]) for log in logs] == [("schedule waits", "POLICY_STALE")] * 4


async def test_an_agent_that_is_gone_is_said(place):
    await place.schedule(cron="0 * * * *")
    from orchestrator.agents import Agent

    await place.agents.delete(Agent, AGENT, "")
    await look(place, NOON)
    now = await place.standing()
    assert (now.reason, now.blocked) == ("RESOURCE_NOT_FOUND", 1)


async def test_a_schedule_ends(place):
    await place.schedule(cron="0 * * * *", end_time=NOON + HOUR)
    await look(place, NOON)
    await end(place)
    await look(place, NOON + HOUR)
    assert await times(place) == ["12:00", "13:00"]
    assert (await place.standing()).next_time is None


async def test_a_trigger_starts_a_run_now_once_a_request(place):
    name = await place.schedule(cron="0 0 1 1 *", paused=True)
    request = "3f0c3f44-4a6e-4bd2-9d2a-6f4d31f6f1aa"
    first = await place.scheduler.trigger(name, request)
    assert await place.scheduler.trigger(name, request) == first
    await place.scheduler.trigger(name, "")
    assert len(await place.runs()) == 2
    now = await place.standing()
    assert (now.started, first.schedule) == (2, name)


async def test_a_backfill_starts_what_has_no_run_yet(place):
    name = await place.schedule(cron="0 * * * *", overlap_policy="ALLOW")
    await look(place, NOON)
    place.clock = NOON + 10 * MINUTE
    made, existing = await place.scheduler.backfill(name, NOON - 5 * HOUR, NOON)
    assert (len(made), existing) == (5, 1)
    assert await place.scheduler.backfill(name, NOON - 5 * HOUR, NOON) == ([], 6)
    assert sorted(await times(place)) == ["07:00", "08:00", "09:00", "10:00", "11:00", "12:00"]
    assert (await place.standing()).started == 6
    for first, last, says in (
        (NOON, NOON - HOUR, "before"),
        (NOON, NOON + HOUR, "future"),
        (NOON - timedelta(days=365), NOON, "1000"),
    ):
        with pytest.raises(InvalidError, match=says):
            await place.scheduler.backfill(name, first, last)


async def test_a_change_of_another_field_keeps_what_is_overdue(place):
    name = await place.schedule(cron="0 * * * *")
    place.clock = NOON + 10 * MINUTE

    def labelled(entry):
        from dataclasses import replace

        return replace(entry, labels={"team": "two"})

    await place.schedules.update(Schedule, name, "", labelled)
    await look(place)
    assert await times(place) == ["12:00"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "* * * * *", "interval": 3}, "exactly one"),
        ({"cron": "* * * * *", "agent": "tenants/other/agents/a"}, "tenants/default"),
        ({"cron": "* * * * *", "input": [1], "input_time_field": "at"}, "object"),
        ({"cron": "* * * * *", "input": "x" * 300_000}, "bytes"),
    ],
)
async def test_a_schedule_that_could_start_nothing_is_refused(place, fields, says):
    with pytest.raises(InvalidError, match=says):
        await place.schedule(**fields)


async def test_a_deleted_schedule_leaves_its_runs_and_nothing_else(place):
    name = await place.schedule(cron="0 * * * *")
    await look(place, NOON)
    await place.schedules.delete(Schedule, name, "")
    await look(place, NOON + HOUR)
    assert await times(place) == ["12:00"]
    assert await place.schedules.standing([name]) == {}
    with pytest.raises(NotFoundError):
        await place.scheduler.trigger(name, "")
