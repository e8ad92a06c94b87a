"""Pushes, loads, unloads, policies and deletions at once, while requests run: one after the other, and nobody fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DigestMismatchError, UploadError, VersionExistsError
from engine.repository.changes import ModelChange
from engine.repository.folders import files_in
from engine.repository.models import Model, ModelVersion, VersionPolicy
from engine.repository.upload import begin
from mesh.catalogue import NotFoundError
from tests.unit.engine.graphs import doubling, folder
from tests.unit.engine.shelf import MANIFEST, MODEL, Shelf

ONE = {"x": np.ones((1, 2), np.float32)}


def staged(shelf: Shelf) -> Path:
    shelf.pushed += 1
    where = shelf.root / "models" / f".upload-engine.{shelf.pushed}"
    return folder(where, MANIFEST, model=doubling(["n", 2]))


async def push(shelf: Shelf, repository, version: int = 0, request_id: str = ""):
    where = staged(shelf)
    return await repository.pushed.keep(MODEL, version, where, files_in(where), {}, load=True, request_id=request_id)


async def names_of(shelf: Shelf) -> list[str]:
    return sorted(entry.name for entry in await shelf.catalogue.every(ModelVersion))


async def test_of_pushes_of_one_version_exactly_one_is_taken_and_the_others_are_told(shelf: Shelf):
    repository = await shelf.started()
    ended = await asyncio.gather(*(push(shelf, repository, 5) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, VersionExistsError) for each in ended) == 3
    assert await names_of(shelf) == [f"{MODEL}/versions/5"]
    assert len(repository.in_memory()) == 1
    assert (await repository.find("t", "m", "5").servable.infer(ONE)).outputs["y"].tolist() == [[2, 2]]


async def test_pushes_without_a_number_get_one_each_and_a_repeated_one_none(shelf: Shelf):
    repository = await shelf.started()
    ended = await asyncio.gather(
        *(push(shelf, repository) for _ in range(3)), *(push(shelf, repository, request_id="again") for _ in range(3))
    )
    assert len({each.name for each in ended[:3]}) == 3
    assert len({each.name for each in ended[3:]}) == 1
    assert await names_of(shelf) == [f"{MODEL}/versions/{at}" for at in (1, 2, 3, 4)]
    assert repository.versions_of(MODEL) == [4]


async def test_nobody_fails_while_policies_pushes_loads_and_unloads_race(shelf: Shelf):
    repository = await shelf.started()
    await push(shelf, repository)
    await push(shelf, repository)
    over, answered = asyncio.Event(), 0

    async def ask() -> None:
        loaded = await repository.found("t", "m", "")
        await asyncio.sleep(0)
        answer = await loaded.servable.infer(ONE)
        assert answer.outputs["y"].tolist() == [[2, 2]]

    async def keep_asking() -> None:
        nonlocal answered
        while not over.is_set():
            await asyncio.create_task(ask())
            answered += 1

    async def change_policies() -> None:
        for policy in (
            VersionPolicy(latest=2), VersionPolicy(every=True), VersionPolicy(versions=(1,)), VersionPolicy(latest=1),
            VersionPolicy(versions=(1, 2)), VersionPolicy(latest=1),
        ):  # fmt: skip
            await repository.lifecycle.update_model(MODEL, "", ModelChange(policy=policy))

    async def load_and_unload() -> None:
        for _ in range(4):
            await repository.lifecycle.load(f"{MODEL}/versions/1")
            await repository.lifecycle.unload(f"{MODEL}/versions/1")

    callers = [asyncio.create_task(keep_asking()) for _ in range(8)]
    await asyncio.gather(change_policies(), load_and_unload(), load_and_unload(), push(shelf, repository))
    over.set()
    await asyncio.gather(*callers)
    assert answered > 20
    for entry in await shelf.catalogue.every(ModelVersion):
        assert (repository.state(entry) == "READY") == entry.body.wanted, entry.name


async def test_a_deletion_among_pushes_leaves_all_or_nothing_of_each(shelf: Shelf):
    repository = await shelf.started()
    for _ in range(3):
        await push(shelf, repository)
        ended = await asyncio.gather(
            push(shelf, repository),
            repository.lifecycle.delete_model(MODEL, ""),
            push(shelf, repository),
            repository.lifecycle.load(f"{MODEL}/versions/1"),
            return_exceptions=True,
        )
        assert not [each for each in ended if isinstance(each, Exception) and not isinstance(each, NotFoundError)]
        left = await names_of(shelf)
        models = await shelf.catalogue.every(Model)
        assert bool(left) == bool(models)
        kept = {str(path.relative_to(shelf.root / "models")) for path in (shelf.root / "models").glob("t/m/*")}
        assert kept == {f"t/m/{name.rsplit('/', 1)[1]}" for name in left}
        assert {loaded.name for loaded in repository.in_memory()} <= set(left)
        if models:
            await repository.lifecycle.delete_model(MODEL, "")
    assert repository.in_memory() == []


@pytest.mark.parametrize("wrong", ["truncated", "another byte", "longer"])
def test_an_upload_that_is_not_what_its_header_says_is_named_and_leaves_nothing(tmp_path: Path, wrong: str):
    where = folder(tmp_path / "source", MANIFEST, model=doubling(["n", 2]))
    files = files_in(where)
    content = {file.path: (where / file.path).read_bytes() for file in files}
    graph = content["model.onnx"]
    content["model.onnx"] = {
        "truncated": graph[:-1],
        "another byte": graph[:-1] + bytes([graph[-1] ^ 1]),
        "longer": graph + b"x",
    }[wrong]
    (tmp_path / "models").mkdir()
    upload = begin(tmp_path / "models", [*files], ".upload-x.")

    def send() -> None:
        for file in files:
            upload.write(file.path, content[file.path])
        upload.finish()

    expected = DigestMismatchError if wrong == "another byte" else UploadError
    with pytest.raises(expected, match=r"model\.onnx: "):
        send()
    upload.abandon()
    assert list((tmp_path / "models").iterdir()) == []
