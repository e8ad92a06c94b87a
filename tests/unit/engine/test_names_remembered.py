"""What was found under a name is found again without a search: only as long as nothing has changed."""

from __future__ import annotations

import pytest

from engine.errors import ModelNotFoundError, VersionNotFoundError
from engine.repository.changes import ModelChange
from engine.repository.repository import Repository
from tests.unit.engine.shelf import MODEL, Shelf

OF_SYSTEM = "tenants/system/models/m"


async def version(repository: Repository, name: str = "m", number: str = "", tenant: str = "t") -> int:
    """What answers, asked twice: the second time it may be remembered."""
    first = await repository.found(tenant, name, number)
    assert await repository.found(tenant, name, number) is first
    return first.version


async def test_a_push_and_an_unload_are_seen_at_once(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    assert [await version(repository), await version(repository, "m", "1")] == [1, 1]
    await shelf.push(repository)
    assert await version(repository) == 2
    with pytest.raises(VersionNotFoundError):
        await repository.found("t", "m", "1")
    await repository.lifecycle.unload(f"{MODEL}/versions/2")  # the one before comes back
    assert await version(repository) == 1
    await repository.lifecycle.unload(f"{MODEL}/versions/1")
    with pytest.raises(ModelNotFoundError):
        await repository.found("t", "m", "")


async def test_a_model_of_ones_own_hides_the_systems_from_its_tenant_alone(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, OF_SYSTEM)
    assert (await repository.found("t", "m", "")).model == OF_SYSTEM
    await shelf.push(repository)
    assert (await repository.found("t", "m", "")).model == MODEL
    assert (await repository.found("u", "m", "")).model == OF_SYSTEM


async def test_an_alias_is_drawn_anew_each_time_and_one_that_is_new_is_seen_at_once(shelf: Shelf):
    draws = iter([0.1, 0.9, 0.1])
    repository = await shelf.started(draw=lambda: next(draws))
    for _ in range(2):
        await shelf.push(repository)
    await repository.lifecycle.load(f"{MODEL}/versions/1")
    await repository.lifecycle.update_model(MODEL, "", ModelChange(aliases={"both": {1: 1, 2: 1}}))
    assert [(await repository.found("t", "m", "both")).version for _ in range(2)] == [1, 2]
    assert (await repository.found("t", "m:both", "")).version == 1


async def test_names_with_something_behind_them_are_not_remembered(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    fixed = repository._memory.fixed
    for at in range(100):
        assert (await repository.found("t", f"m:{at}", "1")).version == 1
    assert not fixed
    assert await version(repository) == 1
    assert list(fixed) == [("t", "m", "")]


async def test_no_more_names_are_remembered_than_there_is_room_for(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.memory._MOST_FIXED", 8)
    repository = await shelf.started()
    await shelf.push(repository, OF_SYSTEM)
    for at in range(50):
        assert (await repository.found(f"tenant-{at}", "m", "")).version == 1
        assert len(repository._memory.fixed) <= 8
