"""Unloading a model over the protocol: all of its versions, or where one may not go, none."""

from __future__ import annotations

import pytest

from engine.errors import BackboneInUseError, VersionAliasedError
from engine.oip.control import RepositoryControl
from engine.repository.changes import ModelChange
from tests.unit.engine.test_repository import Encoder


@pytest.fixture
async def repository(shelf):
    return await shelf.started()


@pytest.fixture
def control(shelf, repository):
    return RepositoryControl(repository, shelf.catalogue)


async def test_all_versions_are_unloaded_at_once_and_none_comes_in_for_another(shelf, repository, control):
    for _ in range(3):
        await shelf.push(repository)
    await control.unload("t", "m", {})
    assert repository.versions_of("tenants/t/models/m") == []
    await repository.stop()
    again = await shelf.started()
    assert again.versions_of("tenants/t/models/m") == []


async def test_where_an_alias_needs_one_version_none_is_unloaded(shelf, repository, control):
    for _ in range(4):
        await shelf.push(repository)
    await shelf.keep_all(repository)
    named = ModelChange(aliases={"production": {3: 1}})
    await repository.lifecycle.update_model("tenants/t/models/m", "", named)
    with pytest.raises(VersionAliasedError, match="versions/3 is what the alias `production` names"):
        await control.unload("t", "m", {})
    assert repository.versions_of("tenants/t/models/m") == [1, 2, 3, 4]
    assert {each.state for each in await control.index("t", ready=False)} == {"READY"}


async def test_where_another_model_stands_on_one_version_none_is_unloaded(shelf, repository, control, monkeypatch):
    monkeypatch.setattr("engine.repository.opening.Embedder", Encoder)
    for _ in range(2):
        await shelf.push(repository, "tenants/t/models/b", manifest="name: b\nkind: text-embedding\n")
    await shelf.keep_all(repository, "tenants/t/models/b")
    examples = "examples: [{text: a, label: a}, {text: b, label: b}]"
    head = f"name: h\nkind: text-classification\nbackbone: b\n{examples}\n"
    await shelf.push(repository, "tenants/t/models/h", manifest=head)
    with pytest.raises(BackboneInUseError):
        await control.unload("t", "b", {})
    assert repository.versions_of("tenants/t/models/b") == [1, 2]
