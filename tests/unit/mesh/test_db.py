"""The database port: groups commit together, an error undoes its own write alone, nothing is half-done."""

import asyncio
import sqlite3
import threading

import pytest
from sqlalchemy import text

from mesh.db import DatabaseFullError, open_database


@pytest.fixture
async def database(tmp_path):
    opened = open_database(f"sqlite:///{tmp_path}/t.db")
    await opened.write(lambda c: c.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")))
    yield opened
    await opened.close()


def count(connection):
    return connection.execute(text("SELECT count(*) FROM t")).scalar_one()


def put(number):
    return lambda c: c.execute(text("INSERT INTO t (id, v) VALUES (:id, 'x')"), {"id": number})


async def test_a_write_is_visible_to_the_next_read(database):
    await database.write(put(1))
    assert await database.read(count) == 1


async def test_concurrent_read_modify_writes_lose_no_update(database):
    await database.write(put(1))

    def increment(connection):
        value = connection.execute(text("SELECT length(v) FROM t WHERE id = 1")).scalar_one()
        connection.execute(text("UPDATE t SET v = :v WHERE id = 1"), {"v": "x" * (value + 1)})

    await asyncio.gather(*(database.write(increment) for _ in range(120)))
    assert await database.read(lambda c: c.execute(text("SELECT length(v) FROM t")).scalar_one()) == 121


async def test_an_error_in_a_group_undoes_only_the_write_that_made_it(database):
    gate = threading.Event()
    held = asyncio.create_task(database.write(lambda _: gate.wait(5)))
    await asyncio.sleep(0.05)
    writes = [asyncio.create_task(database.write(put(n))) for n in (1, 2, 2, 3)]
    await asyncio.sleep(0.05)
    gate.set()
    await held
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(r, Exception) for r in results] == [False, False, True, False]
    assert await database.read(count) == 3


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
    with pytest.raises(Exception, match="UNIQUE"):
        await database.write(put(2))
    assert await database.read(count) == 2


async def test_a_write_that_need_not_be_durable_takes_no_companion(database):
    database.companion = lambda: put(100)
    await database.write(put(1), durable=False)
    assert await database.read(count) == 1


async def test_closing_finishes_the_writes_that_wait(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/t.db")
    await database.write(lambda c: c.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")))
    writes = [asyncio.create_task(database.write(put(n))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*writes)
    with sqlite3.connect(tmp_path / "t.db") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (50,)
    connection.close()


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
