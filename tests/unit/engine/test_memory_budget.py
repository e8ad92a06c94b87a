"""Models within a number of bytes: who goes, who stays, how one comes back, and that memory is given back."""

from __future__ import annotations

import asyncio

import numpy as np
import psutil
import pytest
from tiation.engine.v1 import model_pb2 as pb

from engine.errors import (
    ModelFailedError,
    ModelLoadError,
    ModelNotFoundError,
    ModelTooBigError,
    NoRoomError,
    QueueFullError,
)
from engine.repository.changes import ModelChange
from engine.repository.loading import Loading
from engine.repository.models import ModelVersion, VersionPolicy
from engine.repository.recall import Recall
from engine.servicers.models import ModelServicer
from mesh.pagination import Pages
from tests.unit.engine.graphs import heavy
from tests.unit.engine.shelf import Shelf

MB = 1024 * 1024
ONE = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture(autouse=True)
def _files_alone(monkeypatch):
    """Models count what their files take: what a test's process grows by is not to be foretold."""
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})


def named(name: str) -> str:
    return f"tenants/t/models/{name}"


async def push(shelf: Shelf, repository, *names: str, megabytes: float = 2) -> None:
    for name in names:
        await shelf.push(repository, named(name), content=heavy(megabytes))


async def ask(repository, name: str) -> int:
    """Ask a model as a call does, in a task of its own."""

    async def call() -> int:
        loaded = await repository.found("t", name, "")
        await loaded.servable.infer(ONE)
        return loaded.version

    return await asyncio.create_task(call())


async def states(shelf: Shelf, repository) -> dict[str, str]:
    entries = await shelf.catalogue.every(ModelVersion)
    return {entry.name.split("/")[3]: repository.state(entry) for entry in entries}


async def test_what_was_not_asked_for_longest_goes_and_comes_back_when_it_is_asked(shelf: Shelf):
    repository = await shelf.started(memory_bytes=5 * MB)
    await push(shelf, repository, "a", "b")
    await ask(repository, "a")
    await push(shelf, repository, "c")
    assert await states(shelf, repository) == {"a": "READY", "b": "EVICTED", "c": "READY"}
    assert (repository.serving(named("b")), repository.versions_of(named("b"))) == (1, [1])
    assert await ask(repository, "b") == 1
    assert await states(shelf, repository) == {"a": "EVICTED", "b": "READY", "c": "READY"}


async def test_after_a_restart_what_does_not_fit_waits_outside(shelf: Shelf):
    repository = await shelf.started()
    await push(shelf, repository, "a", "b", "c")
    await repository.stop()
    repository = await shelf.started(memory_bytes=5 * MB)
    assert sorted((await states(shelf, repository)).values()) == ["EVICTED", "READY", "READY"]
    for name in "abc":
        assert await ask(repository, name) == 1


async def test_a_model_bigger_than_everything_is_refused_and_nothing_goes_for_it(shelf: Shelf):
    repository = await shelf.started(memory_bytes=5 * MB)
    await push(shelf, repository, "a")
    with pytest.raises(ModelTooBigError, match=r"engine\.memory_budget_bytes"):
        await push(shelf, repository, "big", megabytes=6)
    assert await states(shelf, repository) == {"a": "READY"}


async def test_who_asks_a_model_that_could_not_be_loaded_is_told_why(shelf: Shelf):
    repository = await shelf.started(memory_bytes=20 * MB)
    await push(shelf, repository, "a", megabytes=8)
    await repository.stop()
    repository = await shelf.started(memory_bytes=5 * MB)
    with pytest.raises(ModelTooBigError):
        await repository.found("t", "a", "")
    for name in ("a", named("a"), "a:production"):
        with pytest.raises(ModelFailedError, match=r"version 1 of tenants/t/models/a could not be loaded: .*_budget"):
            await repository.found("t", name, "")
    for tenant, name in (("u", "a"), ("u", named("a")), ("t", "b"), ("t", "a/versions/1"), ("t", "\0" * 9)):
        with pytest.raises(ModelNotFoundError):
            await repository.found(tenant, name, "")
    await repository.lifecycle.unload(f"{named('a')}/versions/1")
    with pytest.raises(ModelNotFoundError):
        await repository.found("t", "a", "")


async def test_a_version_that_is_pinned_or_asked_now_is_not_put_aside(shelf: Shelf):
    repository = await shelf.started(memory_bytes=5 * MB)
    await push(shelf, repository, "a")
    await repository.lifecycle.update_model(named("a"), "", ModelChange(policy=VersionPolicy(versions=())))
    await repository.lifecycle.load(f"{named('a')}/versions/1")
    await push(shelf, repository, "b")
    on, found = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        loaded = await repository.found("t", "b", "")
        found.set()
        await on.wait()
        await loaded.servable.infer(ONE)

    calling = asyncio.create_task(call())
    await found.wait()
    a, b = (rf"{named(name)}/versions/1 \({why}\)" for name, why in (("a", "pinned"), ("b", "in use")))
    with pytest.raises(NoRoomError, match=rf"pinned or in use: {a}, {b}\. Try again later"):
        await push(shelf, repository, "c")
    on.set()
    await calling
    await push(shelf, repository, "c")
    assert await states(shelf, repository) == {"a": "READY", "b": "EVICTED", "c": "READY"}


async def test_who_finds_no_room_is_told_of_the_largest_three_and_of_no_other_tenants_models(shelf: Shelf):
    repository = await shelf.started(memory_bytes=9 * MB)
    other = "tenants/other/models/secret"
    sizes = {named("a"): 1, named("b"): 1.5, named("c"): 1.2, named("d"): 1.4, other: 2}
    for name, megabytes in sizes.items():
        await shelf.push(repository, name, content=heavy(megabytes))
        repository.find(name.split("/")[1], name, "").uses.begin()  # as by a request that lasts
    b, d, c = (rf"{named(name)}/versions/1 \(in use\)" for name in "bdc")
    with pytest.raises(NoRoomError, match=rf"in use: {b}, {d}, {c} and 2 more\. Try") as refused:
        await push(shelf, repository, "e")
    assert "secret" not in refused.value.message
    with pytest.raises(NoRoomError, match=r"in use: 5 of other tenants\. Try"):
        await shelf.push(repository, "tenants/third/models/m", content=heavy(2))


async def test_a_request_waits_for_room_until_others_have_ended(shelf: Shelf):
    repository = await shelf.started(memory_bytes=3 * MB)
    await push(shelf, repository, "a", "b")
    on, found = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        await repository.found("t", "b", "")
        found.set()
        await on.wait()

    calling = asyncio.create_task(call())
    await found.wait()
    asked = asyncio.create_task(ask(repository, "a"))
    await asyncio.sleep(0.3)
    assert not asked.done()
    on.set()
    await calling
    assert await asked == 1


async def test_many_who_ask_at_once_have_it_loaded_once(shelf: Shelf, monkeypatch):
    repository = await shelf.started(memory_bytes=3 * MB)
    await push(shelf, repository, "a", "b")
    loads = []
    load = Loading.load

    async def counted(self, entry):
        loads.append(entry.name)
        await load(self, entry)

    monkeypatch.setattr(Loading, "load", counted)
    asked = [asyncio.create_task(ask(repository, "a")) for _ in range(50)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert [await each for each in asked[1:]] == [1] * 49
    assert loads == [f"{named('a')}/versions/1"]


async def test_one_that_cannot_come_back_is_failed_and_says_why(shelf: Shelf):
    repository = await shelf.started(memory_bytes=3 * MB)
    await push(shelf, repository, "a", "b")
    (shelf.root / "models/t/a/1/model.onnx").write_bytes(b"no model")
    with pytest.raises(Exception, match=r"model\.onnx"):
        await ask(repository, "a")
    assert (await states(shelf, repository))["a"] == "FAILED"
    with pytest.raises(ModelFailedError):
        await ask(repository, "a")


async def failures(shelf: Shelf) -> dict[str, str]:
    return {entry.name.split("/")[3]: entry.body.failure for entry in await shelf.catalogue.every(ModelVersion)}


async def test_one_that_was_too_big_before_has_no_failure_any_more_once_it_answers(shelf: Shelf):
    repository = await shelf.started()
    await push(shelf, repository, "a", "b")
    await repository.stop()
    repository = await shelf.started(memory_bytes=MB)
    for name in "ab":
        with pytest.raises(ModelTooBigError, match="does not fit"):
            await ask(repository, name)
    assert set((await states(shelf, repository)).values()) == {"FAILED"}
    await repository.stop()
    repository = await shelf.started(memory_bytes=3 * MB)
    assert sorted((await states(shelf, repository)).values()) == ["EVICTED", "READY"]
    assert await failures(shelf) == {"a": "", "b": ""}
    for name in "ab":
        await ask(repository, name)
        assert (await states(shelf, repository))[name] == "READY"
        assert await failures(shelf) == {"a": "", "b": ""}


async def test_why_another_engine_cannot_load_a_version_is_forgotten_as_it_comes_back_and_not_shown(shelf: Shelf):
    repository = await shelf.started(memory_bytes=3 * MB)
    await push(shelf, repository, "a", "b")
    servicer = ModelServicer(repository, shelf.catalogue, Pages(b"k" * 32), None)
    for name, state in (("a", pb.ModelVersion.EVICTED), ("b", pb.ModelVersion.READY)):
        version = f"{named(name)}/versions/1"
        await repository._records.note(version, failure="it does not fit there")
        shown = await servicer.GetModelVersion(pb.GetModelVersionRequest(name=version), None)
        assert (shown.state, shown.state_message) == (state, "")
    await ask(repository, "a")
    assert await failures(shelf) == {"a": "", "b": "it does not fit there"}
    await ask(repository, "b")
    assert await failures(shelf) == {"a": "", "b": ""}


async def test_a_version_that_is_put_aside_is_unloaded_and_deleted_like_any_other(shelf: Shelf):
    repository = await shelf.started(memory_bytes=3 * MB)
    await push(shelf, repository, "a", "b")
    await repository.lifecycle.unload(f"{named('a')}/versions/1")
    assert (await states(shelf, repository))["a"] == "UNLOADED"
    await repository.lifecycle.delete_model(named("a"), "")
    await push(shelf, repository, "c")
    await repository.lifecycle.delete_model(named("b"), "")
    assert await states(shelf, repository) == {"c": "READY"}


async def test_a_push_swaps_within_a_budget_that_holds_one_version(shelf: Shelf):
    repository = await shelf.started(memory_bytes=3 * MB)
    await push(shelf, repository, "a")
    await push(shelf, repository, "a")
    assert (repository.serving(named("a")), repository.versions_of(named("a"))) == (2, [2])


async def test_memory_of_what_is_unloaded_is_given_back(shelf: Shelf):
    repository = await shelf.started()
    process = psutil.Process()
    await push(shelf, repository, "warm")
    before = process.memory_info().rss
    for _ in range(2):
        await push(shelf, repository, "a", megabytes=48)
        assert process.memory_info().rss - before > 40 * MB
        await repository.lifecycle.delete_model(named("a"), "")
        assert process.memory_info().rss - before < 24 * MB


async def test_who_waits_is_told_what_went_wrong_and_too_many_are_refused(monkeypatch):
    monkeypatch.setattr("engine.repository.recall._MOST_WAITING", 2)
    on = asyncio.Event()

    async def bring(_: str) -> None:
        await on.wait()
        raise ModelLoadError("no")

    recall = Recall(bring)
    waiting = [asyncio.create_task(recall("a")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await recall("a")
    on.set()
    for each in waiting:
        with pytest.raises(ModelLoadError):
            await each
    await recall.close()
