"""The repository with a database and a folder of its own: what fails or is cut off leaves nothing half done."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from engine.errors import BackboneInUseError, ModelNotReadyError, VersionServingError
from engine.repository.folders import move_into_place
from engine.repository.models import Model, ModelVersion
from engine.servables import Embedder, ModelContext, OnnxModel
from mesh.catalogue import NotFoundError
from mesh.db import TextInvalidError
from mesh.entries import entry_etag
from mesh.entry_store import EntryStore
from mesh.etag import StaleEtagError
from tests.unit.engine.graphs import endless
from tests.unit.engine.shelf import MODEL, Shelf


class Encoder(Embedder):
    """An encoder without a file."""

    outputs, inferred, waiting = (), (), 0

    def __init__(self, *_) -> None:
        self.closed = False

    async def embed(self, texts, terms=None):
        return np.eye(len(texts), 8, dtype=np.float32), len(texts)

    def close(self) -> None:
        self.closed = True


def threads() -> int:
    """How many models have a thread: one of each that is in memory and not closed."""
    return sum(thread.name.startswith("batch-") for thread in threading.enumerate())


class Held:
    """Work that waits on its thread until it is let on."""

    def __init__(self, work: Callable) -> None:
        self.work, self.entered, self.on = work, threading.Event(), threading.Event()

    def __call__(self, *arguments):
        self.entered.set()
        self.on.wait(10)
        return self.work(*arguments)

    async def cut_off(self, task: asyncio.Task) -> None:
        """Cancel a task while it waits for this, twice, as impatient callers do."""
        await asyncio.to_thread(self.entered.wait, 10)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.01)
        self.on.set()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_push_that_is_cut_off_while_the_model_is_opened_leaves_nothing_in_memory(shelf: Shelf, monkeypatch):
    repository, before = await shelf.started(), threads()
    held = Held(OnnxModel)
    with monkeypatch.context() as patch:
        patch.setattr("engine.repository.opening.OnnxModel", held)
        await held.cut_off(asyncio.create_task(shelf.push(repository)))
    assert threads() == before
    assert (await shelf.push(repository)).name == f"{MODEL}/versions/1"
    assert threads() == before + 1


async def test_a_load_that_is_cut_off_leaves_nothing_in_memory(shelf: Shelf, monkeypatch):
    repository, before = await shelf.started(), threads()
    name = (await shelf.push(repository, load=False)).name
    held = Held(OnnxModel)
    with monkeypatch.context() as patch:
        patch.setattr("engine.repository.opening.OnnxModel", held)
        await held.cut_off(asyncio.create_task(repository.lifecycle.load(name)))
    assert repository.state(await repository.lifecycle.load(name)) == "READY"
    assert threads() == before + 1


async def test_a_push_whose_files_cannot_be_moved_leaves_nothing(shelf: Shelf, monkeypatch):
    repository, before = await shelf.started(), threads()

    def refuse(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("engine.adapters.models_in_folder.move_into_place", refuse)
        with pytest.raises(OSError, match="no room"):
            await shelf.push(repository)
    assert threads() == before
    assert not (shelf.root / "models/t/m/1").exists()


async def test_a_push_that_is_cut_off_while_its_files_are_moved_is_whole_all_the_same(shelf: Shelf, monkeypatch):
    repository = await shelf.started()
    held = Held(move_into_place)
    with monkeypatch.context() as patch:
        patch.setattr("engine.adapters.models_in_folder.move_into_place", held)
        await held.cut_off(asyncio.create_task(shelf.push(repository)))
    assert repository.serving(MODEL) == 1
    assert (shelf.root / "models/t/m/1/model.onnx").is_file()
    assert (await shelf.push(repository)).name == f"{MODEL}/versions/2"


async def test_a_version_that_serves_is_deleted_only_after_it_was_unloaded(shelf: Shelf):
    repository = await shelf.started()
    one = await shelf.push(repository)
    await shelf.keep_all(repository)
    two = await shelf.push(repository)
    for version in (one, two):
        with pytest.raises(VersionServingError, match="unload it first"):
            await repository.lifecycle.delete_version(version.name, "")
    assert (repository.serving(MODEL), repository.versions_of(MODEL)) == (2, [1, 2])
    await repository.lifecycle.unload(two.name)
    await repository.lifecycle.delete_version(two.name, "")
    assert repository.serving(MODEL) == 1
    with pytest.raises(NotFoundError):
        await shelf.catalogue.get(ModelVersion, two.name)
    assert [path.name for path in (shelf.root / "models/t/m").iterdir()] == ["1"]


async def test_a_deletion_with_a_stale_etag_changes_nothing(shelf: Shelf):
    repository = await shelf.started()
    version = await shelf.push(repository)
    await shelf.keep_all(repository)
    read = await shelf.catalogue.get(Model, MODEL)
    await shelf.push(repository)  # the model's etag is another one now
    with pytest.raises(StaleEtagError):
        await repository.lifecycle.delete_model(MODEL, entry_etag(read))
    assert repository.versions_of(MODEL) == [1, 2]
    await repository.lifecycle.unload(version.name)
    with pytest.raises(StaleEtagError):
        await repository.lifecycle.delete_version(version.name, entry_etag(version))
    assert (shelf.root / "models/t/m/1/model.onnx").is_file()
    await repository.lifecycle.delete_model(MODEL, entry_etag(await shelf.catalogue.get(Model, MODEL)))
    assert (repository.versions_of(MODEL), (shelf.root / "models/t/m").exists()) == ([], False)


async def test_a_backbone_of_several_versions_that_is_stood_on_keeps_all_of_them(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.opening.Embedder", Encoder)
    repository, backbone, head = await shelf.started(), "tenants/t/models/b", "tenants/t/models/h"
    for _ in range(2):
        await shelf.push(repository, backbone, manifest="name: b\nkind: text-embedding\n")
        await shelf.keep_all(repository, backbone)
    examples = "examples: [{text: a, label: a}, {text: b, label: b}]"
    await shelf.push(repository, head, manifest=f"name: h\nkind: text-classification\nbackbone: b\n{examples}\n")
    with pytest.raises(BackboneInUseError, match=f"is what {head} stands on"):
        await repository.lifecycle.delete_model(backbone, "")
    assert repository.versions_of(backbone) == [1, 2]
    await repository.lifecycle.delete_model(head, "")
    await repository.lifecycle.delete_model(backbone, "")
    assert repository.versions_of(backbone) == []


async def test_a_model_is_deleted_with_all_its_versions_or_not_at_all(shelf: Shelf, monkeypatch):
    repository = await shelf.started()
    for _ in range(2):
        await shelf.push(repository)
        await shelf.keep_all(repository)
    bury = EntryStore.bury

    def refuse(store, connection, kind, name, *, forever):
        if name.endswith("/versions/2"):
            raise TextInvalidError("not this one")
        bury(store, connection, kind, name, forever=forever)

    with monkeypatch.context() as patch:
        patch.setattr(EntryStore, "bury", refuse)
        with pytest.raises(TextInvalidError):
            await repository.lifecycle.delete_model(MODEL, "")
    assert len(await shelf.catalogue.every(ModelVersion)) == 2
    assert (await shelf.catalogue.get(Model, MODEL)).body.latest == 2
    assert repository.versions_of(MODEL) == [1, 2]
    await repository.lifecycle.delete_model(MODEL, "")
    assert await shelf.catalogue.every(ModelVersion) == []


async def test_a_model_that_goes_keeps_nobody_from_changing_others(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.scheduler.batcher._CLOSE_S", 2.0)
    repository = await shelf.started()
    slow = "tenants/t/models/slow"
    version = await shelf.push(
        repository, slow, manifest="name: slow\nkind: onnx\nbatching: off\n", content=endless(["n", 2])
    )
    servable = repository.find("t", "slow", "").servable
    asked = asyncio.create_task(servable.infer({"x": np.ones((1, 2), np.float32)}))
    await asyncio.sleep(0.05)
    unloading = asyncio.create_task(repository.lifecycle.unload(version.name))
    while repository.serving(slow):
        await asyncio.sleep(0.01)
    await shelf.push(repository)
    assert not unloading.done()
    await unloading
    with pytest.raises(ModelNotReadyError):
        await asked


async def test_what_cannot_be_loaded_at_start_is_said_of_that_version_and_keeps_no_other_from_loading(
    shelf, monkeypatch
):
    repository = await shelf.started()
    for name in ("big", "gone", "part", "whole"):
        await shelf.push(repository, f"tenants/t/models/{name}")
    await repository.stop()
    kept = shelf.root / "models/t"
    manifest = (kept / "part/1/model.yaml").read_bytes()
    (kept / "part/1/model.yaml").unlink()
    shutil.rmtree(kept / "gone")

    def open_model(context: ModelContext):
        if "big" in context.folder.parts:
            raise MemoryError
        return OnnxModel(context)

    async def states() -> dict[str, tuple[str, str]]:
        entries = await shelf.catalogue.every(ModelVersion)
        return {each.name.split("/")[3]: (repository.state(each), each.body.failure) for each in entries}

    with monkeypatch.context() as patch:
        patch.setattr("engine.repository.opening.OnnxModel", open_model)
        repository = await shelf.started()
    found = await states()
    assert {name: state for name, (state, _) in found.items()} == {
        "big": "FAILED", "gone": "FAILED", "part": "FAILED", "whole": "READY",
    }  # fmt: skip
    assert "model.yaml: is missing" in found["part"][1]
    assert "model.yaml: is missing" in found["gone"][1]
    assert "MemoryError" in found["big"][1]
    await repository.stop()
    (kept / "part/1/model.yaml").write_bytes(manifest)
    repository = await shelf.started()
    found = await states()
    assert (found["part"], found["big"]) == (("READY", ""), ("READY", ""))
    await repository.lifecycle.delete_version("tenants/t/models/gone/versions/1", "")


async def test_of_a_model_that_was_unloaded_nothing_stays_in_memory(shelf: Shelf):
    repository = await shelf.started()
    version = await shelf.push(repository)
    servable = weakref.ref(repository.find("t", "m", "").servable)
    await repository.lifecycle.unload(version.name)
    gc.collect()
    assert servable() is None
    labels = {"model": MODEL, "version": "1"}
    assert shelf.registry.get_sample_value("nv_inference_pending_request_count", labels) == 0
