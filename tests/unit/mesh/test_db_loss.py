"""PostgreSQL that goes away: killed between and during writes, restarted, stopped for good, taken over from."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from sqlalchemy import text

from mesh.db import DatabaseFullError, DatabaseUnavailableError, announce, open_database
from mesh.errors import Code

pytestmark = pytest.mark.parametrize("place", ["postgresql"], indirect=True)


@pytest.fixture
async def database(place):
    opened = open_database(place.location, schema=place.schema)
    await opened.write(lambda c: c.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")))
    yield opened
    await opened.close()


def put(number):
    return lambda c: c.execute(text("INSERT INTO t (id, v) VALUES (:id, 'x')"), {"id": number})


def ids(connection):
    return [row.id for row in connection.execute(text("SELECT id FROM t ORDER BY id"))]


async def test_after_a_restart_between_two_calls_nothing_is_noticed(database, postgres):
    await database.write(put(1))
    for take_down in (postgres.stop, postgres.kill):
        await database.read(ids)
        take_down()
        postgres.start()
        assert await database.read(ids) == [1]
        await database.write(lambda c: c.execute(text("UPDATE t SET v = 'y'")))


async def test_a_write_in_the_middle_of_a_crash_is_done_again_from_the_start(database, postgres):
    """The server dies before the commit: the work runs again on the new one, and what it had done is gone."""
    begun, go_on, turns = threading.Event(), threading.Event(), []

    def work(connection):
        turns.append(ids(connection))
        put(1)(connection)
        announce(connection, "things", "1")
        if len(turns) == 1:
            begun.set()
            go_on.wait(10)
        put(2)(connection)
        return "kept"

    writing = asyncio.create_task(database.write(work))
    await asyncio.to_thread(begun.wait, 5)
    postgres.kill()
    postgres.start()
    go_on.set()
    assert await writing == "kept"
    assert turns == [[], []]
    assert await database.read(ids) == [1, 2]


async def test_a_read_in_the_middle_of_a_crash_is_done_again(database, postgres):
    await database.write(put(1))
    begun, go_on, turns = threading.Event(), threading.Event(), []

    def work(connection):
        turns.append(1)
        if len(turns) == 1:
            begun.set()
            go_on.wait(10)
        return ids(connection)

    reading = asyncio.create_task(database.read(work))
    await asyncio.to_thread(begun.wait, 5)
    postgres.kill()
    postgres.start()
    go_on.set()
    assert await reading == [1]
    assert len(turns) == 2


async def test_what_was_acknowledged_survives_crashes_and_nothing_is_kept_twice(database, postgres):
    """Writers in a loop while the server is killed five times; whoever heard that it was kept finds it."""
    kept, unknown, stop = [], [], False

    async def write(first):
        number = first
        while not stop:
            try:
                await database.write(put(number))
            except DatabaseUnavailableError as error:
                if error.metadata["outcome"] == "unknown":
                    unknown.append(number)
                await asyncio.sleep(0.02)
            else:
                kept.append(number)
            number += 10

    writers = [asyncio.create_task(write(first)) for first in range(10)]
    for _ in range(5):
        await asyncio.sleep(0.3)
        postgres.kill()
        postgres.start()
    await asyncio.sleep(0.3)
    stop = True
    await asyncio.gather(*writers)
    found = await database.read(ids)
    assert len(kept) > 100
    assert set(kept) <= set(found) <= {*kept, *unknown}
    assert len(found) == len(set(found))


async def test_while_it_is_down_callers_hear_so_soon_and_the_first_after_its_return_finds_it(database, postgres):
    postgres.kill()
    try:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailableError) as caught:
            await database.write(put(1))
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.metadata["outcome"] == "none"
        assert caught.value.retry_after_s
        assert "127.0.0.1" not in caught.value.message
        assert time.monotonic() - began < 6
        for work in (database.write(put(1)), database.read(ids)):
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailableError):
                await work
            assert time.monotonic() - began < 2
    finally:
        postgres.start()
    await database.write(put(2))
    assert await database.read(ids) == [2]


async def test_a_commit_whose_answer_is_lost_is_told_as_unknown(database, postgres, monkeypatch):
    """The one moment in which nobody can know: it is said, and the write is not silently done again."""
    turns = []

    def work(connection):
        turns.append(1)
        put(1)(connection)
        # The backend ends with the commit's request already on its way.
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()

        def end(_):
            with postgres.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
                while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone():
                    time.sleep(0.01)

        monkeypatch.setattr(database._news, "send", end)

    with pytest.raises(DatabaseUnavailableError, match="same request again") as caught:
        await database.write(work)
    assert caught.value.metadata["outcome"] == "unknown"
    assert turns == [1]


async def test_a_server_that_has_become_a_standby_is_left_for_a_new_connection(database, postgres):
    """As after a failover: the old connection leads to a server that takes no writes."""
    await database.write(put(1))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.commit()
    await database.write(put(2))
    assert await database.read(ids) == [1, 2]


async def test_serialization_failures_and_deadlocks_are_tried_again(database):
    turns = []

    def work(connection):
        turns.append(1)
        put(1)(connection)
        if len(turns) < 3:
            code = "40001" if len(turns) == 1 else "40P01"
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END $$")

    await database.write(work)
    assert len(turns) == 3
    assert await database.read(ids) == [1]


async def test_a_full_disk_of_the_server_is_said_so_and_nothing_is_kept(database):
    def work(connection):
        put(1)(connection)
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$")

    with pytest.raises(DatabaseFullError, match="database server's disk"):
        await database.write(work)
    assert await database.read(ids) == []


async def test_a_process_that_stops_in_the_middle_of_a_write_does_not_keep_the_others_from_writing(database, place):
    """Its session is ended after three seconds; when it goes on, its write is done again."""
    other = open_database(place.location, schema=place.schema)
    begun, go_on, turns = threading.Event(), threading.Event(), []

    def stuck(connection):
        turns.append(1)
        put(1)(connection)
        if len(turns) == 1:
            begun.set()
            go_on.wait(20)
        put(2)(connection)

    writing = asyncio.create_task(other.write(stuck))
    await asyncio.to_thread(begun.wait, 5)
    await asyncio.wait_for(database.write(put(3)), 9)
    go_on.set()
    await writing
    assert await database.read(ids) == [1, 2, 3]
    await other.close()


async def test_whoever_waits_to_be_alone_or_is_alone_hears_that_the_server_went_away(database, place, postgres):
    other = open_database(place.location, schema=place.schema)
    try:
        inside, leave = asyncio.Event(), asyncio.Event()

        async def alone():
            async with database.alone("work"):
                inside.set()
                await leave.wait()

        async def alone_too():
            async with other.alone("work"):
                raise AssertionError("two were alone at once")

        holder = asyncio.create_task(alone())
        await inside.wait()
        waiting = asyncio.create_task(alone_too())
        await asyncio.sleep(0.2)
        postgres.kill()
        with pytest.raises(DatabaseUnavailableError):
            await waiting
        leave.set()
        await holder
        postgres.start()
        async with other.alone("work"):
            pass
    finally:
        await other.close()


async def test_words_are_heard_again_after_a_restart_and_it_is_said_that_some_may_be_missing(database, place, postgres):
    other = open_database(place.location, schema=place.schema)
    heard: list[str | None] = []
    other.listen("things", heard.append)
    await until(lambda: heard == [None])
    postgres.kill()
    postgres.start()
    await until(lambda: heard == [None, None])
    await database.write(lambda c: announce(c, "things", "new"))
    await until(lambda: heard == [None, None, "new"])
    await other.close()


async def until(holds, timeout_s=15.0):
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)
