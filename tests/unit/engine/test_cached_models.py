"""Models whose answers are kept: what is replaced answers for itself alone, and each tenant has its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from prometheus_client import CollectorRegistry

from engine.adapters.answers_in_memory import MemoryAnswers
from engine.cache.answers import Answers
from engine.cache.figures import StoreFigures
from engine.repository.shared_repository import SharedRepository
from engine.scheduler.terms import Terms
from tests.unit.engine.graphs import model
from tests.unit.engine.shelf import MODEL, Shelf
from tests.unit.engine.test_repository import Encoder

MANIFEST = "name: m\nkind: onnx\nresponse_cache: true\n"
X = {"x": np.array([[1.0, 2.0]], np.float32)}


class CachingShelf(Shelf):
    """A shelf whose engines keep answers, all in the same store, as if it were Redis."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.store_figures = StoreFigures(CollectorRegistry())
        self.store = MemoryAnswers(1 << 20, 1 << 16, self.store_figures)
        self.answers = partial(Answers, self.store, self.store_figures)


@pytest.fixture
async def shelf(tmp_path):
    made = CachingShelf(tmp_path)
    yield made
    await made.close()


def tripling() -> bytes:
    x = {"x": (TensorProto.FLOAT, ["n", 2])}
    nodes = [helper.make_node("Add", ["x", "x"], ["z"]), helper.make_node("Add", ["z", "x"], ["y"])]
    return model(nodes, x, {"y": (TensorProto.FLOAT, ["n", 2])})


def counts(repository: SharedRepository, tenant: str = "t", name: str = "m") -> tuple[int, int]:
    figures = repository.find(tenant, name, "").figures.statistics()
    return figures.cache_hit.count, figures.cache_miss.count


async def test_a_model_that_asks_for_it_computes_the_same_question_once(shelf: CachingShelf):
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST)
    loaded = repository.find("t", "m", "")
    for _ in range(3):
        assert (await loaded.infer(X, Terms("t"))).outputs["y"].tolist() == [[2, 4]]
    assert counts(repository) == (2, 1)
    await loaded.infer(X, Terms("t", fresh=True))
    assert counts(repository) == (2, 1)
    assert loaded.figures.statistics().executions == 2


async def test_a_model_that_does_not_ask_for_it_is_asked_each_time(shelf: CachingShelf):
    repository = await shelf.started()
    await shelf.push(repository)
    for _ in range(2):
        await repository.find("t", "m", "").infer(X, Terms("t"))
    assert counts(repository) == (0, 0)


async def test_a_version_that_was_deleted_and_pushed_again_has_none_of_the_old_ones_answers(shelf: CachingShelf):
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST)
    await repository.find("t", "m", "1").infer(X, Terms("t"))
    await repository.lifecycle.delete_model(MODEL, "")
    await shelf.push(repository, manifest=MANIFEST, content=tripling())
    assert (await repository.find("t", "m", "1").infer(X, Terms("t"))).outputs["y"].tolist() == [[3, 6]]


async def test_a_restart_finds_what_the_same_version_had_answered(shelf: CachingShelf):
    await shelf.push(await shelf.started(), manifest=MANIFEST)
    await shelf.opened[0].find("t", "m", "").infer(X, Terms("t"))
    again = await shelf.started()
    await again.find("t", "m", "").infer(X, Terms("t"))
    assert counts(again) == (1, 0)


async def test_two_tenants_models_of_one_name_answer_for_themselves(shelf: CachingShelf):
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST)
    await shelf.push(repository, "tenants/other/models/m", manifest=MANIFEST, content=tripling())
    assert (await repository.find("t", "m", "").infer(X, Terms("t"))).outputs["y"].tolist() == [[2, 4]]
    assert (await repository.find("other", "m", "").infer(X, Terms("other"))).outputs["y"].tolist() == [[3, 6]]


async def test_rows_to_classify_are_kept_too_and_a_wrong_one_is_refused_as_ever(shelf: CachingShelf):
    weights = {"w": np.eye(2, dtype=np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["l"], axis=1, keepdims=0),
    ]
    outputs = {"p": (TensorProto.FLOAT, ["n", 2]), "l": (TensorProto.INT64, ["n"])}
    content = model(nodes, {"x": (TensorProto.FLOAT, ["n", 2])}, outputs, weights)
    repository = await shelf.started()
    await shelf.push(repository, manifest=MANIFEST + "labels: [a, b]\n", content=content)
    loaded = repository.find("t", "m", "")
    first, second = [await loaded.classify([[1.0, 0.0], [0.0, 5.0]], Terms("t")) for _ in range(2)]
    assert list(first.labels) == list(second.labels) == ["a", "b"]
    assert (first.all_scores == second.all_scores).all()
    assert counts(repository) == (1, 1)


async def test_a_head_on_another_backbone_answers_anew(shelf: CachingShelf, monkeypatch):
    monkeypatch.setattr("engine.repository.opening.Embedder", Encoder)
    repository = await shelf.started()
    await shelf.push(repository, "tenants/t/models/e", manifest="name: e\nkind: text-embedding\n")
    examples = "[{text: a, label: x}, {text: b, label: z}]"
    head = f"name: m\nkind: text-classification\nbackbone: e\nexamples: {examples}\nresponse_cache: true\n"
    monkeypatch.setattr("engine.servables.encoder_classifier.Embedder", Encoder)
    await shelf.push(repository, manifest=head)
    loaded = repository.find("t", "m", "")
    for _ in range(2):
        await loaded.classify(["a"], Terms("t"))
    assert counts(repository) == (1, 1)
    await shelf.push(repository, "tenants/t/models/e", manifest="name: e\nkind: text-embedding\n")
    await loaded.classify(["a"], Terms("t"))
    assert counts(repository) == (1, 2)
