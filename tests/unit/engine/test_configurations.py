"""The configuration of every kind of model: how many rows share a batch, and what goes in without the batch's axis."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from engine.errors import ModelNotFoundError
from engine.manifest import parse_manifest
from engine.metrics import EngineMetrics
from engine.repository.loaded import Loaded
from engine.repository.models import VersionPolicy
from engine.scheduler.policy import BatchPolicy
from engine.servables import EncoderClassifier, EncoderZeroShot, Ensemble, OnnxModel
from engine.servicers.inference_config import config_of
from mesh.sandbox import ImagePool
from tests.fakes.decoders import decoder_folder, open_generator
from tests.unit.engine import test_detection, test_entities, test_tabular, test_text_kinds
from tests.unit.engine.graphs import context_of, doubling, folder
from tests.unit.engine.image_graphs import one_table
from tests.unit.engine.tables import price_pipeline
from tests.unit.engine.test_heads import MANIFEST as HEAD
from tests.unit.engine.test_heads import Encoder


def plain(where, batching: str = "auto", rows: int = 8) -> OnnxModel:
    text = f"name: m\nkind: onnx\nbatching: '{batching}'\n"
    made = folder(where, text, model=doubling(["n", 2]))
    parsed = parse_manifest(text.encode(), model="m")
    return OnnxModel(context_of(made, parsed, BatchPolicy(rows, 64)))


def encoder(*words: str) -> Encoder:
    made = Encoder(*words)
    made._graph = SimpleNamespace(policy=BatchPolicy(6, 64))
    return made


def head(_) -> EncoderClassifier:
    return asyncio.run(EncoderClassifier.build(HEAD, lambda: encoder("invoice", "crash", "hello")))


def zero_shot(_) -> EncoderZeroShot:
    text = "name: m\nkind: zero-shot-classification\nbackbone: b\nlabels: [invoice, crash]\ntemplate: '{}'\n"
    manifest = parse_manifest(text.encode(), model="m")
    return asyncio.run(EncoderZeroShot.build(manifest, lambda: encoder("invoice", "crash")))


def ensemble(where, *, alone: str = "auto") -> Ensemble:
    text = (
        "name: e\nkind: ensemble\nsteps:\n- {name: a, model: a, inputs: {x: x}}\n"
        "- {name: b, model: b, inputs: {x: a.y}}\noutputs: {z: b.y}\n"
    )
    members = {"a": plain(where / "a"), "b": plain(where / "b", alone, 5)}
    loaded = {name: wrapped(servable, name) for name, servable in members.items()}
    return Ensemble(parse_manifest(text.encode(), model="e"), lambda name, _: loaded[name])


def wrapped(servable, name: str = "m", manifest=None) -> Loaded:
    figures = EngineMetrics(CollectorRegistry()).of(f"tenants/t/models/{name}", 1)
    return Loaded(f"tenants/t/models/{name}/versions/1", f"tenants/t/models/{name}", 1, servable, manifest, figures)


def configured(servable, manifest: str = "name: m\nkind: onnx\n"):
    parsed = parse_manifest(manifest.encode(), model=manifest.split()[1])
    return config_of("m", wrapped(servable, manifest=parsed), VersionPolicy(), "cpu")


def detector(where):
    return test_detection.opened(where, one_table(), test_detection.LABELS, ImagePool())


KINDS = {
    "a graph": (plain, 8, [[2]]),
    "a graph that takes requests one by one": (lambda where: plain(where, "off"), 0, [[-1, 2]]),
    "a trained text classifier": (
        lambda where: test_text_kinds.classifier(where, test_text_kinds.GRAPH + "labels: [a, b]\nscores: logits\n"),
        4,
        [[]],
    ),
    "entailment": (
        lambda where: test_text_kinds.pairs(
            where, test_text_kinds.PAIRS + "labels: [sport]\nentailment: 2\ncontradiction: 0\n"
        ),
        4,
        [[]],
    ),
    "entities": (test_entities.opened, 4, [[]]),
    "a table": (lambda where: test_tabular.opened(where, "output: variable\n", price_pipeline()), 8, None),
    "things in images": (detector, 8, [[]]),
    "a head on an encoder": (head, 6, [[]]),
    "labels that nobody trained for": (zero_shot, 6, [[]]),
    "an ensemble": (ensemble, 5, [[2]]),
    "an ensemble with a step of its own": (
        lambda where: ensemble(where, alone="off"),
        0,
        [[-1, 2]],
    ),
    "a model that writes": (lambda where: open_generator(decoder_folder(where)), 0, [[-1], [1], [1], [1]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_says_how_many_rows_share_a_batch(tmp_path, kind):
    make, rows, dims = KINDS[kind]
    servable = make(tmp_path / "m")
    config = configured(servable)
    assert config.max_batch_size == rows
    assert config.HasField("dynamic_batching") is (rows > 0)
    if dims is not None:
        assert [list(each.dims) for each in config.input] == dims
    shapes = [spec.shape for spec in (*servable.inputs, *servable.outputs)]
    assert not rows or all(shape[0] == -1 for shape in shapes)
    servable.close()


def test_what_stands_on_a_model_that_has_gone_shares_no_batch():
    there = [encoder("invoice", "crash", "hello")]

    def backbone():
        if not there:
            raise ModelNotFoundError("it has gone")
        return there[0]

    made = asyncio.run(EncoderClassifier.build(HEAD, backbone))
    assert configured(made).max_batch_size == 6
    there.clear()
    assert configured(made).max_batch_size == 0
