"""Ensembles in a repository: what they stand on stays, what takes its place answers, none stands on itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BackboneInUseError, EnsembleError, NoRoomError, TooDeepError
from engine.repository.changes import ModelChange
from engine.repository.models import ModelVersion, VersionPolicy
from engine.scheduler.terms import Terms
from tests.unit.engine.graphs import doubling, folder, heavy
from tests.unit.engine.test_cached_models import CachingShelf, counts, tripling

EXAMPLE = Path(__file__).parents[3] / "examples" / "ensemble"
X = {"x": np.array([[1.0, 2.0]], np.float32)}
Y = [[4, 8]]


@pytest.fixture
async def shelf(tmp_path):
    made = CachingShelf(tmp_path)
    yield made
    await made.close()


def manifest(name: str, *models: str) -> str:
    """An ensemble of models one after the other."""
    lines, source = [], "x"
    for at, model in enumerate(models):
        lines.append(f"  - {{name: s{at}, model: {model}, inputs: {{x: {source}}}}}\n")
        source = f"s{at}.y"
    return f"name: {name}\nkind: ensemble\nsteps:\n{''.join(lines)}outputs: {{y: {source}}}\n"


async def push(shelf: CachingShelf, repository, name: str, text: str = "", content: bytes = b""):
    return await shelf.push(repository, f"tenants/t/models/{name}", manifest=text, content=content)


async def ask(repository, name: str) -> list:
    return (await repository.find("t", name, "").infer(X, Terms("t"))).outputs["y"].tolist()


async def test_an_ensemble_answers_with_what_its_models_are_now(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "m")
    entry = await push(shelf, repository, "e", manifest("e", "m", "m"))
    assert (entry.body.kind, entry.body.depth) == ("ensemble", 1)
    assert [spec.name for spec in entry.body.inputs] == ["x"]
    assert await ask(repository, "e") == Y
    await push(shelf, repository, "m", content=tripling())
    assert await ask(repository, "e") == [[9, 18]]
    assert repository.find("t", "m", "2").figures.statistics().success.count == 2


async def test_a_pinned_version_stays_whatever_comes(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "m")
    await push(shelf, repository, "e", manifest("e", "m, version: 1"))
    await push(shelf, repository, "m", content=tripling())
    assert await ask(repository, "e") == [[2, 4]]
    with pytest.raises(BackboneInUseError, match="is what tenants/t/models/e stands on"):
        await repository.lifecycle.unload("tenants/t/models/m/versions/1")
    await repository.lifecycle.unload("tenants/t/models/m/versions/2")


async def test_what_an_ensemble_stands_on_cannot_go_before_it(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "m")
    await push(shelf, repository, "e", manifest("e", "m"))
    with pytest.raises(BackboneInUseError):
        await repository.lifecycle.unload("tenants/t/models/m/versions/1")
    with pytest.raises(BackboneInUseError):
        await repository.lifecycle.delete_model("tenants/t/models/m", "")
    await repository.lifecycle.unload("tenants/t/models/e/versions/1")
    await repository.lifecycle.unload("tenants/t/models/m/versions/1")
    with pytest.raises(EnsembleError, match=r"steps\[0\]\.model: `m` is not loaded; load it first"):
        await repository.lifecycle.load("tenants/t/models/e/versions/1")


async def test_a_restart_loads_ensembles_after_what_they_stand_on(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "z")
    await push(shelf, repository, "y", manifest("y", "z"))
    await push(shelf, repository, "x", manifest("x", "y"))
    again = await shelf.started()
    assert await ask(again, "x") == [[2, 4]]
    assert [entry.body.failure for entry in await shelf.catalogue.every(ModelVersion)] == ["", "", ""]


async def test_four_ensembles_above_each_other_are_taken_and_no_fifth(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "e0")
    for depth in range(1, 5):
        await push(shelf, repository, f"e{depth}", manifest(f"e{depth}", f"e{depth - 1}"))
    assert await ask(repository, "e4") == [[2, 4]]
    with pytest.raises(TooDeepError):
        await push(shelf, repository, "e5", manifest("e5", "e4"))


async def test_an_ensemble_that_would_come_to_stand_on_itself_is_refused(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "b")
    await push(shelf, repository, "a", manifest("a", "b"))
    with pytest.raises(TooDeepError, match="stands on itself"):
        await push(shelf, repository, "b", manifest("b", "a"))
    with pytest.raises(TooDeepError):
        await push(shelf, repository, "a", manifest("a", "a"))
    assert await ask(repository, "a") == [[2, 4]]


async def test_another_tenants_models_are_none_of_its_own(shelf: CachingShelf):
    repository = await shelf.started()
    await shelf.push(repository, "tenants/other/models/m")
    with pytest.raises(EnsembleError):
        await push(shelf, repository, "e", manifest("e", "m"))


async def test_steps_find_their_models_kept_answers(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "m", "name: m\nkind: onnx\nresponse_cache: true\n", doubling(["n", 2]))
    await push(shelf, repository, "e", manifest("e", "m"))
    for _ in range(3):
        assert await ask(repository, "e") == [[2, 4]]
    assert counts(repository) == (2, 1)


async def test_a_kept_answer_of_an_ensemble_goes_with_the_model_that_gave_it(shelf: CachingShelf):
    repository = await shelf.started()
    await push(shelf, repository, "m")
    await push(shelf, repository, "e", manifest("e", "m") + "response_cache: true\n")
    assert await ask(repository, "e") == await ask(repository, "e") == [[2, 4]]
    await push(shelf, repository, "m", content=tripling())
    assert await ask(repository, "e") == [[3, 6]]
    assert counts(repository, name="e") == (1, 2)


async def test_the_flowers_of_the_example_get_their_names(shelf: CachingShelf, tmp_path):
    from sklearn.datasets import load_iris

    command = [sys.executable, EXAMPLE / "make_models.py", tmp_path / "made"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
    repository = await shelf.started()
    for name in ("flower-scale", "flower-network", "flower-names"):
        made = tmp_path / "made" / name
        await push(shelf, repository, name, (made / "model.yaml").read_text(), (made / "model.onnx").read_bytes())
    await push(shelf, repository, "flower-kinds", (EXAMPLE / "flower-kinds" / "model.yaml").read_text())
    measures, kinds = load_iris(return_X_y=True)
    names = load_iris().target_names
    asked = {"measures": measures.astype(np.float32)}
    answer = await repository.find("t", "flower-kinds", "").infer(asked, Terms("t"))
    assert [kind.decode() for kind in answer.outputs["kind"]][::50] == ["setosa", "versicolor", "virginica"]
    right = np.array([kind.decode() for kind in answer.outputs["kind"]]) == names[kinds]
    assert right.mean() > 0.95
    assert answer.outputs["probabilities"].shape == (150, 3)


async def test_no_version_of_an_alias_that_an_ensemble_stands_on_is_put_aside(shelf: CachingShelf, monkeypatch):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    repository = await shelf.started(memory_bytes=6 * 1024 * 1024)
    for _ in range(2):
        await push(shelf, repository, "m", content=heavy(1))
    both = ModelChange(policy=VersionPolicy(every=True), aliases={"production": {1: 50, 2: 50}})
    await repository.lifecycle.load("tenants/t/models/m/versions/1")
    await repository.lifecycle.update_model("tenants/t/models/m", "", both)
    await push(shelf, repository, "e", manifest("e", "m, version: production"))
    repository.find("t", "e", "").uses.begin()  # as by a request that lasts: the ensemble itself stays
    for name in ("a", "b", "c", "d"):
        await push(shelf, repository, name, content=heavy(2))
    assert repository._memory.is_aside("tenants/t/models/a/versions/1")
    assert not any(repository._memory.is_aside(f"tenants/t/models/m/versions/{version}") for version in (1, 2))

    async def call() -> None:
        await (await repository.found("t", "e", "")).infer(X, Terms("t"))

    for _ in range(20):
        await asyncio.create_task(call())
    answered = [repository.find("t", "m", version).figures.statistics().success.count for version in "12"]
    assert sum(answered) == 20
    assert all(answered)


async def test_what_was_brought_back_for_an_ensemble_at_the_start_goes_once_nothing_stands_on_it(
    shelf: CachingShelf, monkeypatch
):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    repository = await shelf.started()
    for name in ("a", "m"):
        await push(shelf, repository, name, content=heavy(2))
    await push(shelf, repository, "e", manifest("e", "m") + "warm_up: [{shapes: {x: [1, 2]}}]\n")
    await repository.stop()
    repository = await shelf.started(memory_bytes=3 * 1024 * 1024)  # by a task that goes on, as the engine's own
    assert [each.name.split("/")[3] for each in repository.in_memory()] == ["m", "e"]
    with pytest.raises(NoRoomError, match=r"models/m/versions/1 \(another model stands on it\)\. Try again"):
        await push(shelf, repository, "b", content=heavy(2))
    await repository.lifecycle.unload("tenants/t/models/e/versions/1")
    await push(shelf, repository, "b", content=heavy(2))
    assert repository._memory.is_aside("tenants/t/models/m/versions/1")


async def test_what_was_brought_back_as_shipped_models_were_taken_in_is_in_use_no_more(
    shelf: CachingShelf, tmp_path, monkeypatch
):
    monkeypatch.setattr("engine.repository.room.Growth.bytes", lambda _: {})
    for name in ("a", "b"):
        folder(tmp_path / "shipped" / name / "1", f"name: {name}\nkind: onnx\n", model=heavy(2))
    folder(tmp_path / "shipped" / "c" / "1", manifest("c", "a"))
    repository = shelf.repository(memory_bytes=3 * 1024 * 1024)
    repository._system = repository._ships._folder = tmp_path / "shipped"
    await repository.start()
    assert [each.name.split("/")[3] for each in repository.in_memory()] == ["a", "c"]
    assert not repository._memory.busy
