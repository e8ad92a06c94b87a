"""Variants: smaller versions that are compared with their source, made in a process that may end without harm."""

from __future__ import annotations

import asyncio
import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import (
    ElementError,
    ReadOnlyModelError,
    TensorError,
    VariantCrashedError,
    VariantImpossibleError,
    VariantsBusyError,
    VariantTimeoutError,
)
from engine.repository.models import Provenance
from engine.runtime.sessions import SessionSettings
from engine.tensor import TensorSpec
from engine.variants.comparison import compare
from engine.variants.making import Variants, Wish
from engine.variants.reports import Precision
from engine.variants.samples import questions
from tests.unit.engine.graphs import doubling, model
from tests.unit.engine.shelf import MODEL, Shelf

INT8, FP16 = Precision.INT8, Precision.FP16


def layers() -> bytes:
    """Shares of three classes, from four numbers: two matrices and a softmax."""
    random = np.random.default_rng(3)
    weights = {
        "a": random.standard_normal((4, 256)).astype(np.float32),
        "b": random.standard_normal((256, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["bent"]),
        helper.make_node("MatMul", ["bent", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"], axis=-1),
    ]
    return model(nodes, {"x": (TensorProto.FLOAT, ["n", 4])}, {"shares": (TensorProto.FLOAT, ["n", 3])}, weights)


async def variants(shelf: Shelf, **limits: float) -> tuple[Variants, object]:
    repository = await shelf.started()
    return Variants(repository, shelf.catalogue, SessionSettings(intra_op_threads=1), **limits), repository


def wish(precision: Precision = INT8, source: str = f"{MODEL}/versions/1", **more) -> Wish:
    return Wish("tenants/t", source, precision, **more)


@pytest.mark.parametrize(("precision", "cosine", "smaller"), [(INT8, 0.98, 0.9), (FP16, 0.999, 0.9)])
async def test_a_variant_is_a_new_version_with_its_report_that_is_not_loaded(shelf, precision, cosine, smaller):
    made, repository = await variants(shelf)
    await shelf.push(repository, content=layers())
    entry = await made.make(wish(precision), Provenance("tenants/t/principals/p"))
    report = entry.body.variant
    assert entry.name == f"{MODEL}/versions/2"
    assert (report.source, report.precision, report.rows, report.made_up) == (
        f"{MODEL}/versions/1", precision, 32, True,
    )  # fmt: skip
    assert report.size_bytes < smaller * report.source_bytes
    assert report.source_ms > 0 < report.own_ms
    [output] = report.outputs
    assert output.name == "shares"
    assert cosine < output.cosine_min <= output.cosine_mean <= 1
    assert output.agreement > 0.9
    assert output.probability_difference_max < 0.2
    assert repository.state(entry) == "UNLOADED"
    assert repository.serving(MODEL) == 1
    assert not list((shelf.root / "models").glob(".upload*/*.onnx"))
    loaded = await repository.lifecycle.load(entry.name)
    answer = await repository.find("t", "m", "2").servable.infer({"x": np.ones((2, 4), np.float32)})
    assert (repository.state(loaded), answer.outputs["shares"].shape) == ("READY", (2, 3))


async def test_the_callers_samples_are_asked_and_a_version_is_made_once_for_a_request(shelf):
    made, repository = await variants(shelf)
    await shelf.push(repository, content=layers())
    asked = wish(
        samples=[json.dumps({"x": [1, 2, 3, at]}) for at in range(5)],
        request_id="5f0d6c1e-0000-4000-8000-000000000001",
        model_id="smaller",
        load=True,
    )
    entry = await made.make(asked, Provenance())
    assert entry.name == "tenants/t/models/smaller/versions/1"
    assert (entry.body.variant.rows, entry.body.variant.made_up) == (5, False)
    assert repository.serving("tenants/t/models/smaller") == 1
    assert (await made.make(asked, Provenance())).name == entry.name


async def test_what_has_no_variant_is_said_and_nothing_is_left(shelf):
    made, repository = await variants(shelf)
    await shelf.push(repository, content=doubling(["n", 2]))
    for precision, said in ((INT8, "no weights in MatMul"), (FP16, "no FP32 weights")):
        with pytest.raises(VariantImpossibleError, match=said):
            await made.make(wish(precision), Provenance())
    with pytest.raises(VariantImpossibleError, match="another tenant's"):
        await made.make(Wish("tenants/other", f"{MODEL}/versions/1", INT8), Provenance())
    with pytest.raises(ReadOnlyModelError):
        await made.make(Wish("tenants/system", f"{MODEL}/versions/1", INT8), Provenance())
    assert [path.name for path in (shelf.root / "models" / "t" / "m").iterdir()] == ["1"]
    assert not list((shelf.root / "models").glob(".upload-*"))


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("no json", "samples[1]: is no JSON object"),
        ('{"y": 1}', "samples[1]: has no `x`"),
        ('{"x": ["a"]}', "samples[1]: `x` is no FP32"),
    ],
)
async def test_a_sample_that_does_not_fit_is_named(shelf, sample, said):
    made, repository = await variants(shelf)
    await shelf.push(repository, content=layers())
    with pytest.raises(ElementError, match=f"^{re.escape(said)}"):
        await made.make(wish(samples=['{"x": [1, 2, 3, 4]}', sample]), Provenance())


async def test_samples_that_the_model_cannot_be_asked_are_said_so_by_its_input(shelf):
    made, repository = await variants(shelf)
    await shelf.push(repository, content=layers())
    with pytest.raises(TensorError, match=r"^samples: tensor 'x': "):
        await made.make(wish(samples=['{"x": [1, 2, 3]}']), Provenance())


async def test_one_that_takes_too_long_or_too_much_is_ended(shelf):
    slow, repository = await variants(shelf, limit_s=0.05)
    await shelf.push(repository, content=layers())
    with pytest.raises(VariantTimeoutError, match=r"not ready after 0\.05 s"):
        await slow.make(wish(), Provenance())
    small = Variants(repository, shelf.catalogue, SessionSettings(intra_op_threads=1), memory_bytes=1 << 20)
    # Where memory ends is where something of the many that make a variant says so, or ends.
    with pytest.raises((VariantCrashedError, VariantImpossibleError)):
        await small.make(wish(), Provenance())
    assert not list((shelf.root / "models").glob(".upload-*"))


async def test_more_than_a_few_at_once_are_refused_at_once_and_who_gives_up_makes_room(shelf):
    made, repository = await variants(shelf)
    await shelf.push(repository, content=layers())
    waiting = [asyncio.create_task(made.make(wish(), Provenance())) for _ in range(8)]
    await asyncio.sleep(0.3)
    with pytest.raises(VariantsBusyError, match="8 variants"):
        await made.make(wish(), Provenance())
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not list((shelf.root / "models").glob(".upload-*"))
    assert (await made.make(wish(), Provenance())).body.variant is not None


def test_a_variant_of_what_ships_with_the_platform_has_a_name_of_its_own():
    source = "tenants/system/models/all-minilm-l6-v2/versions/1"
    assert wish(source=source).target_id == "all-minilm-l6-v2-int8"
    assert wish(FP16, source, model_id="mine").target_id == "mine"
    assert wish(source="tenants/t/models/m/versions/3").target_id == "m"
    assert len(wish(source=f"tenants/system/models/{'m' * 63}/versions/1").target_id) <= 63


def one(name: str, source: object, own: object):
    [report] = compare({name: np.asarray(source)}, {name: np.asarray(own)})
    return report


def test_probabilities_are_compared_by_their_largest_and_by_their_difference():
    report = one("p", [[0.6, 0.4], [0.3, 0.7]], [[0.4, 0.6], [0.3, 0.7]])
    assert report.agreement == 0.5
    assert report.probability_difference_max == pytest.approx(0.2)


def test_vectors_are_compared_by_their_angle():
    report = one("v", [[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert (report.cosine_min, report.cosine_mean) == (0.0, pytest.approx(2 / 3))
    assert report.error_max == pytest.approx(2 / 3)
    assert report.agreement is None


def test_what_is_no_number_any_more_is_as_wrong_as_can_be():
    report = one("v", [[1.0, 2.0]], [[np.nan, 2.0]])
    assert report.cosine_min == 0.0
    assert report.error_max == np.inf


def test_words_agree_or_they_do_not_and_so_do_shapes():
    words = np.array([b"cat", b"dog"], object)
    assert one("label", words, np.array([b"cat", b"cow"], object)).agreement == 0.5
    assert one("label", words, words[:1]).agreement == 0.0
    assert one("v", [[1.0]], [[1.0, 2.0]]).cosine_mean == 0.0


def test_questions_are_made_up_of_every_type_that_a_model_takes():
    specs = [TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("attention_mask", "INT64", (-1, -1))]
    [asked], rows = questions(specs, ())
    assert (asked["ids"].shape, rows) == ((32, 16), 32)
    assert (asked["attention_mask"] == 1).all()
    [texts], _ = questions([TensorSpec("text", "BYTES", (-1,))], ["one", "two"])
    assert texts["text"].tolist() == [b"one", b"two"]
    apart, _ = questions([TensorSpec("x", "FP32", (-1, -1))], ['{"x": [1, 2]}', '{"x": [1, 2, 3]}'])
    assert [each["x"].shape for each in apart] == [(1, 2), (1, 3)]
