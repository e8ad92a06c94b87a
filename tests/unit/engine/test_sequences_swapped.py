"""Sequences of a model of which another version comes: they go on where they began, as long as they are under way."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import SequenceNotFoundError
from engine.scheduler.terms import Terms
from tests.unit.engine.graphs import heavy
from tests.unit.engine.shelf import MODEL, Shelf
from tests.unit.engine.test_sequences import MANIFEST, adding, terms, x


async def ask(repository, value: float, id_: str = "s", version: str = "", **said) -> tuple[int, float]:
    """The version that answers a step, and what it answers; asked as a call of its own."""

    async def call() -> tuple[int, float]:
        wanted = terms(id_, **said)
        loaded = await repository.found_for("t", "m", version, wanted)
        return loaded.version, float((await loaded.infer(x(value), wanted)).outputs["y"][0, 0])

    return await asyncio.create_task(call())


async def closed(repository, name: str, *, looks: int = 100) -> bool:
    """Whether a version's memory is given back, within two seconds."""
    for _ in range(looks):
        if all(loaded.name != name for loaded in repository._memory._closing.values()):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_running_sequence_ends_on_the_version_on_which_it_began(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST, content=adding())
    assert await ask(repository, 1, starts=True) == (1, 1)
    await shelf.push(repository, manifest=MANIFEST, content=adding())
    assert repository.versions_of(MODEL) == [2]
    assert await ask(repository, 10, "new", starts=True) == (2, 10)
    assert await ask(repository, 2) == (1, 3)
    assert await ask(repository, 3, version="1") == (1, 6)
    assert not await closed(repository, f"{MODEL}/versions/1", looks=5)
    assert await ask(repository, 4, ends=True) == (1, 10)
    assert await closed(repository, f"{MODEL}/versions/1")
    with pytest.raises(SequenceNotFoundError):
        await ask(repository, 5)
    assert await ask(repository, 10, "new", ends=True) == (2, 20)


async def test_a_sequence_that_nobody_ends_holds_an_old_version_no_longer_than_it_may_be_idle(shelf: Shelf):
    repository = await shelf.started()
    text = MANIFEST + "  max_idle_s: 0.2\n"
    await shelf.push(repository, manifest=text, content=adding())
    await ask(repository, 1, starts=True)
    await shelf.push(repository, manifest=text, content=adding())
    assert await closed(repository, f"{MODEL}/versions/1")


async def test_unloading_ends_the_sequences(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST, content=adding())
    await ask(repository, 1, starts=True)
    async with asyncio.timeout(5):
        await repository.lifecycle.unload(f"{MODEL}/versions/1")
    await repository.lifecycle.load(f"{MODEL}/versions/1")
    with pytest.raises(SequenceNotFoundError):
        await ask(repository, 2)


async def test_a_model_that_remembers_is_warmed_up_with_a_sequence_of_its_own(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST + "warm_up: [{runs: 2}]\n", content=adding())
    loaded = repository.find("t", "m", "")
    assert loaded.figures.statistics().executions == 2
    assert (len(loaded.servable.running), loaded.uses.count) == (0, 0)


async def test_requests_that_are_part_of_no_sequence_are_routed_as_ever(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    for _ in range(2):
        assert (await repository.found_for("t", "m", "", Terms("t"))).version == 1
    assert (await repository.found_for("t", "m", "", terms())).version == 1


async def test_a_model_with_a_running_sequence_is_not_put_aside(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    repository = await shelf.started(memory_bytes=5 * 1024 * 1024)
    await shelf.push(repository, manifest=MANIFEST, content=adding())
    await shelf.push(repository, "tenants/t/models/h", content=heavy(2))
    assert await ask(repository, 1, starts=True) == (1, 1)
    for name in ("i", "j", "k"):
        await shelf.push(repository, f"tenants/t/models/{name}", content=heavy(2))
    assert not repository._memory.is_aside(f"{MODEL}/versions/1")
    assert await ask(repository, 2, ends=True) == (1, 3)
