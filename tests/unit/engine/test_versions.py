"""Which versions answer: the policy, what an operator says against it, aliases, and what happens on the way."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import (
    AliasNotReadyError,
    BackboneInUseError,
    ManifestError,
    ModelNotReadyError,
    VersionAliasedError,
    VersionNotFoundError,
)
from engine.repository.aliases import drawn, share_of
from engine.repository.changes import ModelChange
from engine.repository.models import Hold, Model, ModelVersion, VersionPolicy
from engine.repository.policy import desired, hold_of
from mesh.entries import entry_etag
from mesh.errors import InvalidError
from mesh.etag import StaleEtagError
from tests.unit.engine.graphs import endless
from tests.unit.engine.shelf import MODEL, Shelf

ONE = {"x": np.ones((1, 2), np.float32)}


def policy(**said) -> ModelChange:
    return ModelChange(policy=VersionPolicy(**said))


def aliases(**said: dict[int, int]) -> ModelChange:
    return ModelChange(aliases=said)


async def test_a_push_swaps_the_version_and_the_one_before_goes(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    await shelf.push(repository)
    assert (repository.serving(MODEL), repository.versions_of(MODEL)) == (2, [2])
    await repository.stop()
    repository = await shelf.started()
    assert repository.versions_of(MODEL) == [2]


async def test_a_call_under_way_finishes_on_the_version_that_it_found(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    found, on = asyncio.Event(), asyncio.Event()

    async def call() -> tuple[int, list]:
        loaded = await repository.found("t", "m", "")
        found.set()
        await on.wait()
        return loaded.version, (await loaded.servable.infer(ONE)).outputs["y"].tolist()

    calling = asyncio.create_task(call())
    await found.wait()
    await shelf.push(repository)
    assert repository.versions_of(MODEL) == [2]
    await asyncio.sleep(0.05)
    on.set()
    assert await calling == (1, [[2.0, 2.0]])


async def test_a_version_that_is_unloaded_waits_only_briefly_for_who_found_it(shelf: Shelf):
    repository = await shelf.started()
    version = await shelf.push(repository)
    found, on = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        loaded = await repository.found("t", "m", "")
        found.set()
        await on.wait()
        await loaded.servable.infer(ONE)

    calling = asyncio.create_task(call())
    await found.wait()
    async with asyncio.timeout(5):
        await repository.lifecycle.unload(version.name)
    on.set()
    with pytest.raises(ModelNotReadyError):
        await calling


async def test_the_newest_two_are_kept_where_the_policy_says_so(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    await repository.lifecycle.update_model(MODEL, "", policy(latest=2))
    for _ in range(3):
        await shelf.push(repository)
    assert repository.versions_of(MODEL) == [3, 4]
    await repository.lifecycle.update_model(MODEL, "", policy(every=True))
    assert repository.versions_of(MODEL) == [1, 2, 3, 4]
    await repository.lifecycle.update_model(MODEL, "", policy(versions=(1, 3)))
    assert (repository.versions_of(MODEL), repository.serving(MODEL)) == ([1, 3], 3)
    await shelf.push(repository)
    assert repository.versions_of(MODEL) == [1, 3]
    await repository.lifecycle.update_model(MODEL, "", policy(versions=()))
    assert (repository.versions_of(MODEL), repository.serving(MODEL)) == ([], 0)


async def test_a_policy_that_names_no_version_of_the_model_changes_nothing(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    with pytest.raises(InvalidError, match="there is no version 7"):
        await repository.lifecycle.update_model(MODEL, "", policy(versions=(1, 7)))
    assert repository.versions_of(MODEL) == [1]


async def test_a_change_with_a_stale_etag_or_only_to_be_validated_changes_nothing(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    stale = entry_etag(await shelf.catalogue.get(Model, MODEL))
    await shelf.push(repository)
    with pytest.raises(StaleEtagError):
        await repository.lifecycle.update_model(MODEL, stale, policy(every=True))
    trial = ModelChange(policy=VersionPolicy(every=True), validate_only=True)
    assert (await repository.lifecycle.update_model(MODEL, "", trial)).body.policy.every
    assert repository.versions_of(MODEL) == [2]


async def test_a_version_loaded_by_hand_stays_until_the_policy_changes(shelf: Shelf):
    repository = await shelf.started()
    first = await shelf.push(repository)
    await shelf.push(repository)
    await repository.lifecycle.load(first.name)
    await shelf.push(repository)
    assert repository.versions_of(MODEL) == [1, 3]
    await repository.lifecycle.update_model(MODEL, "", policy(latest=1))
    assert repository.versions_of(MODEL) == [3]


async def test_unloading_the_newest_brings_the_one_before_back(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    second = await shelf.push(repository)
    await repository.lifecycle.unload(second.name)
    assert (repository.serving(MODEL), repository.state(await shelf.catalogue.get(ModelVersion, second.name))) == (
        1,
        "UNLOADED",
    )
    await repository.stop()
    repository = await shelf.started()
    assert repository.versions_of(MODEL) == [1]
    await repository.lifecycle.load(second.name)
    assert repository.versions_of(MODEL) == [2]


async def test_a_version_that_fails_its_warm_up_is_failed_and_the_one_before_goes_on(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    bad = await shelf.push(repository, manifest="name: m\nkind: onnx\nwarm_up: [{shapes: {x: [3, 5]}}]\n")
    assert repository.state(bad) == "FAILED"
    assert "warm_up[0]" in bad.body.failure
    assert (repository.serving(MODEL), repository.versions_of(MODEL)) == (1, [1])
    await repository.stop()
    repository = await shelf.started()
    assert (repository.serving(MODEL), repository.versions_of(MODEL)) == (1, [1])
    good = await shelf.push(
        repository, manifest="name: m\nkind: onnx\nwarm_up: [{shapes: {x: [3, 2]}}, {values: {x: [[1, 2]]}, runs: 3}]\n"
    )
    assert (repository.state(good), repository.versions_of(MODEL)) == ("READY", [3])


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{shapes: {z: [1]}}", "z: the model takes x"),
        ("{texts: [hello]}", "the model takes x"),
        ("{values: {x: [[1, 2], [3]]}}", "x: the values are not FP32"),
        ("{values: {x: [[one, two]]}}", "x: the values are not FP32"),
        ("{shapes: {x: [100000000, 2]}}", "more than"),
    ],
)
async def test_a_warm_up_that_does_not_fit_the_model_says_what_it_takes(shelf: Shelf, entry: str, says: str):
    repository = await shelf.started()
    made = await shelf.push(repository, manifest=f"name: m\nkind: onnx\nwarm_up: [{entry}]\n")
    assert says in made.body.failure


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("warm_up: [{text: hello}]", "did you mean `texts`"),
        ("warm_up: [{texts: [a], shapes: {x: [1]}}]", "warm_up\\[0\\]: has texts and tensors"),
        ("warm_up: yes", "warm_up"),
    ],
)
async def test_a_warm_up_that_is_none_is_refused_with_the_push(shelf: Shelf, line: str, says: str):
    repository = await shelf.started()
    with pytest.raises(ManifestError, match=says):
        await shelf.push(repository, manifest=f"name: m\nkind: onnx\n{line}\n")


async def test_a_warm_up_that_never_ends_leaves_the_version_before(shelf: Shelf, monkeypatch):
    monkeypatch.setattr("engine.repository.warm_up._LIMIT_S", 0.2)
    monkeypatch.setattr("engine.scheduler.batcher._CLOSE_S", 0.2)
    repository = await shelf.started()
    await shelf.push(repository)
    slow = "name: m\nkind: onnx\nbatching: off\nwarm_up: [{shapes: {x: [1, 2]}}]\n"
    made = await shelf.push(repository, manifest=slow, content=endless(["n", 2]))
    assert "takes longer than" in made.body.failure
    assert repository.serving(MODEL) == 1


async def test_a_version_lost_from_disk_makes_the_one_before_come_back_at_start(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    await shelf.push(repository)
    await repository.stop()
    shutil.rmtree(shelf.root / "models/t/m/2")
    repository = await shelf.started()
    assert (repository.serving(MODEL), repository.versions_of(MODEL)) == (1, [1])


async def test_an_alias_keeps_its_version_in_memory_and_answers_by_both_forms(shelf: Shelf):
    repository = await shelf.started()
    first = await shelf.push(repository)
    await repository.lifecycle.update_model(MODEL, "", aliases(production={1: 1}))
    await shelf.push(repository)
    assert repository.versions_of(MODEL) == [1, 2]
    assert repository.find("t", "m", "production").version == 1
    assert repository.find("t", "m:production", "").version == 1
    assert repository.find("t", f"{MODEL}:production", "").version == 1
    assert repository.find("t", "m", "").version == 2
    for refused in (repository.lifecycle.unload(first.name), repository.lifecycle.delete_version(first.name, "")):
        with pytest.raises(VersionAliasedError, match="`production`"):
            await refused
    await repository.stop()
    repository = await shelf.started()
    assert repository.find("t", "m", "production").version == 1
    await repository.lifecycle.update_model(MODEL, "", aliases())
    assert repository.versions_of(MODEL) == [2]
    with pytest.raises(VersionNotFoundError, match="production"):
        repository.find("t", "m", "production")


async def test_an_alias_of_another_tenant_is_not_seen(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    await repository.lifecycle.update_model(MODEL, "", aliases(production={1: 1}))
    await shelf.push(repository, "tenants/other/models/m", manifest="name: m\nkind: onnx\n")
    with pytest.raises(VersionNotFoundError) as refused:
        repository.find("other", "m", "production")
    assert "its aliases" not in refused.value.message


async def test_an_alias_to_what_does_not_answer_is_refused(shelf: Shelf):
    repository = await shelf.started()
    first = await shelf.push(repository)
    await shelf.push(repository)
    with pytest.raises(AliasNotReadyError, match="load it first"):
        await repository.lifecycle.update_model(MODEL, "", aliases(production={1: 1}))
    await repository.lifecycle.load(first.name)
    await repository.lifecycle.update_model(MODEL, "", aliases(production={1: 1}))
    for wrong, says in (({"x": {9: 1}}, "no version 9"), ({"Not-One": {1: 1}}, "lower-case"), ({"y": {}}, "from 1")):
        with pytest.raises(InvalidError, match=says):
            await repository.lifecycle.update_model(MODEL, "", ModelChange(aliases=wrong))


async def test_weights_share_requests_and_a_key_sticks(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository)
    await shelf.keep_all(repository)
    await shelf.push(repository)
    await repository.lifecycle.update_model(MODEL, "", aliases(canary={1: 90, 2: 10}))
    for key in ("ada", "bob", "17"):
        assert len({repository.find("t", "m", "canary", key).version for _ in range(20)}) == 1
    by_key = Counter(repository.find("t", "m", "canary", str(key)).version for key in range(2000))
    assert 100 < by_key[2] < 320
    by_draw = Counter(repository.find("t", "m", "canary").version for _ in range(2000))
    assert 100 < by_draw[2] < 320


async def test_two_loads_and_an_unload_that_race_end_as_one_after_the_other(shelf: Shelf):
    repository = await shelf.started()
    first = await shelf.push(repository)
    await shelf.push(repository)
    for _ in range(5):
        await asyncio.gather(
            repository.lifecycle.load(first.name),
            repository.lifecycle.load(first.name),
            repository.lifecycle.unload(first.name),
        )
        entry = await shelf.catalogue.get(ModelVersion, first.name)
        assert entry.body.wanted == (1 in repository.versions_of(MODEL))
        assert repository.serving(MODEL) == 2


async def test_a_policy_that_would_leave_nothing_of_a_backbone_is_refused(shelf: Shelf, monkeypatch):
    from tests.unit.engine.test_repository import Encoder

    monkeypatch.setattr("engine.repository.opening.Embedder", Encoder)
    repository, backbone = await shelf.started(), "tenants/t/models/b"
    await shelf.push(repository, backbone, manifest="name: b\nkind: text-embedding\n")
    examples = "examples: [{text: a, label: a}, {text: b, label: b}]"
    await shelf.push(
        repository, "tenants/t/models/h", manifest=f"name: h\nkind: text-classification\nbackbone: b\n{examples}\n"
    )
    with pytest.raises(BackboneInUseError):
        await repository.lifecycle.update_model(backbone, "", policy(versions=()))
    assert repository.versions_of(backbone) == [1]


bodies = st.dictionaries(
    st.integers(1, 20),
    st.sampled_from([ModelVersion("onnx", (), hold=hold) for hold in Hold]),
    max_size=8,
)
policies = st.builds(VersionPolicy, latest=st.integers(1, 4), every=st.booleans())


@given(bodies, policies, st.integers(1, 20), st.booleans())
def test_what_is_remembered_of_a_version_brings_about_what_its_operator_wanted(versions, policy, number, loaded):
    versions = {**versions, number: ModelVersion("onnx", ())}
    model = Model(20, policy)
    held = {**versions, number: ModelVersion("onnx", (), hold=hold_of(model, versions, number, loaded=loaded))}
    assert (number in desired(model, held)) == loaded


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 100), min_size=1), st.floats(0, 1))
def test_a_draw_is_always_one_of_the_versions(weights, share):
    assert drawn(weights, share) in weights


@given(st.text(), st.text())
def test_a_key_has_one_share(model, key):
    assert 0 <= share_of(model, key) < 1
    assert share_of(model, key) == share_of(model, key)
