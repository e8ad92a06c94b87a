"""The database port, on either kind: groups commit together, an error undoes its own write alone, nothing half-done."""

import asyncio
import sqlite3
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from mesh.db import DatabaseFullError, TextInvalidError, announce, open_database


@pytest.fixture
async def database(place):
    opened = open_database(place.location, schema=place.schema)
    await opened.write(lambda c: c.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")))
    yield opened
    await opened.close()


@pytest.fixture
async def another(database, place):
    """The same database as another process has it."""
    opened = open_database(place.location, schema=place.schema)
    yield opened
    await opened.close()


def count(connection):
    return connection.execute(text("SELECT count(*) FROM t")).scalar_one()


def put(number):
    return lambda c: c.execute(text("INSERT INTO t (id, v) VALUES (:id, 'x')"), {"id": number})


class Group:
    """Writes that go into one transaction: they are put into the queue while another write holds the writer."""

    def __init__(self, database):
        self._database = database

    async def __call__(self, *works):
        gate = threading.Event()
        held = asyncio.create_task(self._database.write(lambda _: gate.wait(5)))
        await asyncio.sleep(0.05)
        writes = [asyncio.create_task(self._database.write(work)) for work in works]
        await asyncio.sleep(0.05)
        gate.set()
        await held
        return await asyncio.gather(*writes, return_exceptions=True)


async def test_a_write_is_visible_to_the_next_read(database):
    await database.write(put(1))
    assert await database.read(count) == 1


def increment(connection):
    value = connection.execute(text("SELECT length(v) FROM t WHERE id = 1")).scalar_one()
    connection.execute(text("UPDATE t SET v = :v WHERE id = 1"), {"v": "x" * (value + 1)})


async def test_concurrent_read_modify_writes_lose_no_update(database):
    await database.write(put(1))
    await asyncio.gather(*(database.write(increment) for _ in range(120)))
    assert await database.read(lambda c: c.execute(text("SELECT length(v) FROM t")).scalar_one()) == 121


async def test_two_processes_that_read_modify_and_write_lose_no_update(database, another):
    await database.write(put(1))
    for _ in range(10):
        await asyncio.gather(*(each.write(increment) for each in (database, another) * 10))
    assert await database.read(lambda c: c.execute(text("SELECT length(v) FROM t")).scalar_one()) == 201


async def test_numbers_are_given_in_the_order_of_commits_whichever_process_writes(database, another):
    """Whoever reads on from the highest number that he has seen misses nothing."""
    numbered = "INTEGER PRIMARY KEY AUTOINCREMENT" if database.is_sqlite else "SERIAL PRIMARY KEY"
    await database.write(lambda c: c.execute(text(f"CREATE TABLE log (n {numbered}, v TEXT)")))

    def log(connection):
        connection.execute(text("INSERT INTO log (v) VALUES ('x')"))

    def after(n):
        return lambda c: [row.n for row in c.execute(text("SELECT n FROM log WHERE n > :n ORDER BY n"), {"n": n})]

    seen = []
    writing = asyncio.gather(*(each.write(log) for each in (database, another) * 100))
    while not writing.done():
        seen += await database.read(after(seen[-1] if seen else 0))
    seen += await database.read(after(seen[-1] if seen else 0))
    assert len(seen) == len(set(seen)) == 200


async def test_a_read_sees_one_moment(database, another):
    await database.write(put(1))
    loop = asyncio.get_running_loop()

    def twice(connection):
        before = count(connection)
        asyncio.run_coroutine_threadsafe(another.write(put(2)), loop).result(5)
        return before, count(connection)

    assert await database.read(twice) == (1, 1)
    assert await database.read(count) == 2


async def test_an_error_in_a_group_undoes_only_the_write_that_made_it(database):
    results = await Group(database)(put(1), put(2), put(2), put(3))
    assert [isinstance(r, IntegrityError) for r in results] == [False, False, True, False]
    assert await database.read(count) == 3


async def test_of_a_whole_group_only_the_one_that_fails_is_undone(database):
    works = [put(number) for number in range(256)]
    works[100] = put(7)
    results = await Group(database)(*works)
    assert [number for number, result in enumerate(results) if isinstance(result, Exception)] == [100]
    assert await database.read(count) == 255


async def test_a_write_that_goes_on_after_an_error_is_not_taken_for_kept(database):
    """PostgreSQL answers the COMMIT of such a transaction with a rollback; SQLite goes on with it."""

    def careless(connection):
        put(5)(connection)
        try:
            put(5)(connection)
        except IntegrityError:
            return "done"

    results = await Group(database)(put(1), careless, put(2))
    expected = 3 if database.is_sqlite else 2
    assert ("done" in results, await database.read(count)) == (database.is_sqlite, expected)
    await database.write(lambda c: c.execute(text("DELETE FROM t")))
    result = await told(database.write(careless))
    assert (result == "done", await database.read(count)) == (database.is_sqlite, int(database.is_sqlite))


async def told(work):
    """What it returns or raises."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 -- the test looks at it
        return error


async def test_a_savepoint_of_the_works_own_lets_it_go_on_after_an_error(database):
    def careful(connection):
        put(1)(connection)
        with pytest.raises(IntegrityError), connection.begin_nested():
            put(1)(connection)
        put(2)(connection)

    await database.write(careful)
    assert await database.read(count) == 2


async def test_a_write_whose_work_fails_halfway_leaves_nothing(database):
    def half(connection):
        put(7)(connection)
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        await database.write(half)
    assert await database.read(count) == 0


async def test_a_cancelled_writer_does_not_disturb_the_group(database):
    gate = threading.Event()
    held = asyncio.create_task(database.write(lambda _: gate.wait(5)))
    await asyncio.sleep(0.05)
    cancelled, kept = asyncio.create_task(database.write(put(1))), asyncio.create_task(database.write(put(2)))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    gate.set()
    await held
    await kept
    assert await database.read(lambda c: c.execute(text("SELECT v FROM t WHERE id = 2")).scalar_one()) == "x"


async def test_a_companion_commits_with_the_change_or_not_at_all(database):
    database.companion = lambda: put(100)
    await database.write(put(1))
    with pytest.raises(IntegrityError):
        await database.write(put(2))
    assert await database.read(count) == 2


async def test_a_write_that_need_not_be_durable_takes_no_companion(database):
    database.companion = lambda: put(100)
    await database.write(put(1), durable=False)
    assert await database.read(count) == 1


async def test_only_what_must_survive_power_loss_waits_for_the_disk(database):
    asked = "PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"

    def waits(connection):
        return connection.execute(text(asked)).scalar_one() in (2, "on")

    assert await database.write(waits)
    assert not await database.write(waits, durable=False)
    assert await database.write(waits)


async def test_closing_finishes_the_writes_that_wait(place):
    database = open_database(place.location, schema=place.schema)
    await database.write(lambda c: c.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")))
    writes = [asyncio.create_task(database.write(put(n))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*writes)
    again = open_database(place.location, schema=place.schema)
    assert await again.read(count) == 50
    await again.close()


async def test_a_character_that_cannot_be_kept_is_the_requests_fault(database):
    work = database.write(lambda c: c.execute(text("INSERT INTO t (id, v) VALUES (1, :v)"), {"v": "a\0b"}))
    if database.is_sqlite:
        await work
        return
    with pytest.raises(TextInvalidError, match="NUL"):
        await work


async def test_word_reaches_the_other_processes_with_the_commit_and_only_then(database, another):
    heard: list[str | None] = []
    another.listen("things", heard.append)
    own: list[str | None] = []
    database.listen("things", own.append)
    if database.is_sqlite:
        return  # a service is one process there
    await until(lambda: heard == own == [None])

    def work(number, *, fails=False):
        def write(connection):
            put(number)(connection)
            announce(connection, "things", f"thing {number}")
            announce(connection, "others", "not listened for")
            if fails:
                raise RuntimeError("undone")

        return write

    await Group(database)(work(1), work(2, fails=True), work(3), work(3))
    with pytest.raises(RuntimeError):
        await database.write(work(4, fails=True))
    await database.write(work(5))
    await until(lambda: "thing 5" in heard)
    assert heard == [None, "thing 1", "thing 3", "thing 5"]
    assert own == [None], "a process hears its own words"


async def until(holds, timeout_s=10.0):
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)


async def test_one_process_at_a_time_is_alone(database, another):
    if database.is_sqlite:
        async with database.alone("work"), database.alone("other"):
            return
    order = []

    async def work(own, name):
        async with own.alone("work"):
            order.append(f"{name} in")
            await asyncio.sleep(0.1)
            order.append(f"{name} out")

    await asyncio.gather(work(database, "one"), work(another, "two"))
    assert order in (
        ["one in", "one out", "two in", "two out"],
        ["two in", "two out", "one in", "one out"],
    )


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_full_disk_says_so_and_keeps_nothing(database):
    await database.write(lambda c: c.execute(text("PRAGMA user_version")))

    def limited(connection):
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count={pages}"))
        connection.execute(text("INSERT INTO t (id, v) VALUES (1, :v)"), {"v": "x" * 100_000})

    with pytest.raises(DatabaseFullError, match="no space"):
        await database.write(limited)
    assert await database.read(count) == 0


async def test_the_database_file_is_private(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/t.db")
    await database.write(lambda c: c.execute(text("CREATE TABLE t (id INTEGER)")))
    assert (tmp_path / "t.db").stat().st_mode & 0o077 == 0
    await database.close()
    connection = sqlite3.connect(tmp_path / "t.db")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.close()
