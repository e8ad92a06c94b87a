"""Work that many ask for at once, and what follows other engines."""

from __future__ import annotations

import asyncio

import pytest

from engine.repository.sharing import Coalesced, Follower
from mesh.db import open_database
from tests.fakes.background import running


class Work:
    """Work that waits until it may end, and fails where it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()
        self.fails: list[Exception] = []

    async def __call__(self) -> None:
        self.begun += 1
        await self.go_on.wait()
        if self.fails:
            raise self.fails.pop()


async def test_who_asks_while_it_is_done_gets_one_more_together():
    work = Work()
    done = Coalesced(work)
    first = asyncio.create_task(done())
    await asyncio.sleep(0)
    late = [asyncio.create_task(done()) for _ in range(10)]
    await asyncio.sleep(0)
    work.go_on.set()
    await asyncio.gather(first, *late)
    assert work.begun == 2


async def test_where_the_one_who_does_it_goes_away_another_does_it():
    work = Work()
    done = Coalesced(work)
    asked = [asyncio.create_task(done()) for _ in range(3)]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    await asyncio.sleep(0.01)
    work.go_on.set()
    await asyncio.gather(*asked[1:])
    assert work.begun == 2


async def test_where_it_fails_those_who_wait_try_it_again():
    work = Work()
    work.fails.append(OSError("gone"))
    done = Coalesced(work)
    asked = [asyncio.create_task(done()) for _ in range(3)]
    await asyncio.sleep(0.01)
    work.go_on.set()
    with pytest.raises(OSError, match="gone"):
        await asked[0]
    await asyncio.gather(*asked[1:])
    assert work.begun == 2


async def test_a_follower_goes_on_whatever_a_look_fails_with(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.repository.sharing._LOOK_S", 0.01)
    looks = []

    async def look() -> None:
        looks.append(1)
        raise OSError("no such folder")

    database = open_database(f"sqlite:///{tmp_path / 'engine.db'}")
    async with running(Follower(database, look).run), asyncio.timeout(5):
        while len(looks) < 3:
            await asyncio.sleep(0.01)
    await database.close()
