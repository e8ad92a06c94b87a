"""The repository with a database and a folder of its own: what fails or is cut off leaves nothing half done."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import mesh
from engine.folders import move_into_place
from engine.metrics import EngineMetrics
from engine.models import File
from engine.opening import Opener
from engine.servables import BatchLimits, OnnxModel
from engine.sessions import SessionSettings
from engine.shared_repository import SharedRepository
from engine.sharing import Sharing
from mesh.catalogue import Catalogue
from mesh.db import open_database
from mesh.entry_store import EntryStore
from mesh.migrate import migrate
from mesh.sandbox import ImagePool
from tests.unit.engine.graphs import doubling, folder

MODEL = "tenants/t/models/m"
MANIFEST = "name: m\nkind: onnx\n"


class Place:
    """A folder and a database, and engines on them, one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = open_database(f"sqlite:///{root / 'engine.db'}")
        migrate(self.database.engine, Path(mesh.__path__[0]) / "migrations" / "versions")
        self.opened: list[SharedRepository] = []
        self.pushed = 0

    def repository(self) -> SharedRepository:
        self.registry = CollectorRegistry()
        opener = Opener(EngineMetrics(self.registry), SessionSettings(), BatchLimits(8, 64), ImagePool())
        catalogue = Catalogue(self.database, EntryStore())
        made = SharedRepository(self.root / "models", None, catalogue, opener, Sharing(self.database, "engine"))
        self.opened.append(made)
        return made

    async def started(self) -> SharedRepository:
        made = self.repository()
        await made.start()
        return made

    async def push(self, repository: SharedRepository, model: str = MODEL, *, load: bool = True, manifest: str = ""):
        """A new version, of `y = x + x` unless the manifest says something else."""
        self.pushed += 1
        manifest = manifest or MANIFEST.replace("m\n", f"{model.rsplit('/', 1)[1]}\n", 1)
        staged = folder(self.root / "models" / f".upload-{self.pushed}", manifest, model=doubling(["n", 2]))
        files = [File("model.yaml", len(manifest), hashlib.sha256(manifest.encode()).hexdigest())]
        return await repository.keep(model, 0, staged, files, {}, load=load)

    async def close(self) -> None:
        for repository in self.opened:
            await repository.stop()
        await self.database.close()


@pytest.fixture
async def place(tmp_path):
    made = Place(tmp_path)
    yield made
    await made.close()


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


async def test_a_push_that_is_cut_off_while_the_model_is_opened_leaves_nothing_in_memory(place: Place, monkeypatch):
    repository, before = await place.started(), threads()
    held = Held(OnnxModel)
    with monkeypatch.context() as patch:
        patch.setattr("engine.opening.OnnxModel", held)
        await held.cut_off(asyncio.create_task(place.push(repository)))
    assert threads() == before
    assert (await place.push(repository)).name == f"{MODEL}/versions/1"
    assert threads() == before + 1


async def test_a_load_that_is_cut_off_leaves_nothing_in_memory(place: Place, monkeypatch):
    repository, before = await place.started(), threads()
    name = (await place.push(repository, load=False)).name
    held = Held(OnnxModel)
    with monkeypatch.context() as patch:
        patch.setattr("engine.opening.OnnxModel", held)
        await held.cut_off(asyncio.create_task(repository.load(name)))
    assert repository.state(await repository.load(name)) == "READY"
    assert threads() == before + 1


async def test_a_push_whose_files_cannot_be_moved_leaves_nothing(place: Place, monkeypatch):
    repository, before = await place.started(), threads()

    def refuse(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("engine.repository.move_into_place", refuse)
        with pytest.raises(OSError, match="no room"):
            await place.push(repository)
    assert threads() == before
    assert not (place.root / "models/t/m/1").exists()


async def test_a_push_that_is_cut_off_while_its_files_are_moved_is_whole_all_the_same(place: Place, monkeypatch):
    repository = await place.started()
    held = Held(move_into_place)
    with monkeypatch.context() as patch:
        patch.setattr("engine.repository.move_into_place", held)
        await held.cut_off(asyncio.create_task(place.push(repository)))
    assert repository.serving(MODEL) == 1
    assert (place.root / "models/t/m/1/model.onnx").is_file()
    assert (await place.push(repository)).name == f"{MODEL}/versions/2"
