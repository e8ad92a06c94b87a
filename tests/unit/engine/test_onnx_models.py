"""A data scientist's own files: exported by skl2onnx or made by hand, with a manifest of few lines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engine.errors import (
    ElementError,
    InputRefusedError,
    ManifestError,
    ModelFileError,
    ModelLoadError,
    NoLabelsError,
    TensorError,
)
from engine.runtime.onnx import onnxruntime
from tests.unit.engine.graphs import doubling, model, opened

MANIFEST = "name: m\nkind: onnx\n"
X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def exported(classifier, example, **options) -> bytes:
    """What skl2onnx makes of a trained model."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx

        return to_onnx(classifier, example, target_opset=18, **options).SerializeToString()


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X, NAMES[Y])


@pytest.mark.parametrize("zipmap", [True, False])
async def test_a_pipeline_of_scikit_learn_answers_with_or_without_its_map(tmp_path: Path, pipeline, zipmap: bool):
    content = exported(pipeline, X[:1], options={id(pipeline): {"zipmap": zipmap}})
    made = opened(tmp_path, MANIFEST, iris=content)
    label, probabilities = made.outputs
    assert (label.datatype, probabilities.datatype, probabilities.shape) == ("BYTES", "FP32", (-1, 3))
    answer = await made.infer({made.inputs[0].name: X[::10]})
    assert np.allclose(answer.outputs[probabilities.name], pipeline.predict_proba(X[::10]), atol=1e-4)
    assert [value.decode() for value in answer.outputs[label.name]] == pipeline.predict(X[::10]).tolist()
    assert answer.rows == 15
    assert made.classifies == "rows"
    found = await made.classify(X[::10].tolist())
    assert found.labels == pipeline.predict(X[::10]).tolist()
    assert list(found.names) == NAMES.tolist()
    assert np.allclose(found.scores, pipeline.predict_proba(X[::10]).max(axis=1), atol=1e-4)
    assert {"file: iris.onnx", f"label: {label.name}", f"probabilities: {probabilities.name}"} <= set(made.inferred)
    assert "labels: [setosa, versicolor, virginica]" in made.inferred
    made.close()


async def test_classes_that_are_no_columns_are_found_in_the_table_that_the_graph_indexes(tmp_path: Path):
    network = GaussianNB().fit(X, Y * 10 + 3)
    made = opened(tmp_path, MANIFEST, model=exported(network, X[:1], options={id(network): {"zipmap": False}}))
    assert list((await made.classify(X[:3].tolist())).names) == ["3", "13", "23"]
    made.close()


async def test_texts_go_into_a_pipeline_that_takes_texts(tmp_path: Path):
    texts = ["refund my invoice", "the app crashes", "invoice is wrong", "a crash in the app"] * 5
    made_of = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["billing", "bug"] * 10)
    options = {id(made_of): {"zipmap": False}, TfidfVectorizer: {"locale": "C"}}
    content = exported(made_of, np.array(texts[:1]).reshape(-1, 1), options=options)
    made = opened(tmp_path, MANIFEST, model=content)
    assert made.classifies == "texts"
    found = await made.classify(["an invoice", "it crashes"])
    assert found.labels == ["billing", "bug"]
    many = await asyncio.gather(*(made.classify(["an invoice", "the app"]) for _ in range(20)))
    assert {tuple(each.labels) for each in many} == {("billing", "bug")}
    with pytest.raises(TensorError, match="UTF-8"):
        spec = made.inputs[0]
        await made.infer({spec.name: np.array([[b"\xff"]], object).reshape(1, *[1] * (len(spec.shape) - 1))})
    made.close()


def test_the_runtime_takes_no_texts_but_utf8():
    """What docs/inference-protocol.md says of bytes; where this fails, they can go in as they are."""
    one = (TensorProto.STRING, ["n"])
    content = model([helper.make_node("Identity", ["x"], ["y"])], {"x": one}, {"y": one})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    raw = np.array([b"\xff"], object)
    assert session.run(None, {"x": raw})[0].tolist() == ["b'\\xff'"]  # how Python shows it, not what it is
    for texts in (raw.astype("S1"), np.array([b"\xff".decode(errors="surrogateescape")], object)):
        with pytest.raises(UnicodeError):
            session.run(None, {"x": texts})
    with pytest.raises(RuntimeError, match="non-string"):
        onnxruntime.OrtValue.ortvalue_from_numpy(raw)


async def test_a_fixed_batch_is_filled_up_and_several_are_run(tmp_path: Path):
    weights = {"w": np.eye(3, dtype=np.float32)}
    content = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=1),
            helper.make_node("ArgMax", ["p"], ["l"], axis=1, keepdims=0),
        ],
        {"x": (TensorProto.FLOAT, [4, 3])},
        {"p": (TensorProto.FLOAT, [4, 3]), "l": (TensorProto.INT64, [4])},
        weights,
    )
    made = opened(tmp_path, MANIFEST + "labels: [a, b, c]\n", model=content)
    assert "batching: off" in made.inferred
    for count in (1, 4, 6):
        rows = np.eye(3, dtype=np.float32)[np.arange(count) % 3]
        found = await made.classify(rows.tolist())
        # The file's own label is a number and none of the names: the most probable column is the answer.
        assert found.labels == [("a", "b", "c")[at % 3] for at in range(count)]
        assert found.scores.shape == (count,)
    with pytest.raises(TensorError, match=r"wants shape \[4, 3\]"):
        await made.infer({"x": np.zeros((1, 3), np.float32)})
    made.close()


@pytest.mark.parametrize(("shape", "batches"), [(["n", 2], "on"), (["n", "m"], "on"), ([2, 2], "off"), ([], "off")])
async def test_whether_rows_may_share_a_run_is_tried(tmp_path: Path, shape, batches: str):
    made = opened(tmp_path, MANIFEST, model=doubling(shape))
    assert f"batching: {batches}" in made.inferred
    given = np.full([2 if isinstance(axis, str) else axis for axis in shape], 1.5, np.float32)
    answers = await asyncio.gather(*(made.infer({"x": given}) for _ in range(5)))
    assert all(np.array_equal(each.outputs["y"], given * 2) for each in answers)
    with pytest.raises(TensorError, match="wants"):
        await made.infer({"x": given[None]})
    with pytest.raises(TensorError, match="wants FP32"):
        await made.infer({"x": given.astype(np.int64)})
    made.close()


@pytest.mark.parametrize("written", ["on", "off", "'off'"])
def test_whether_rows_share_a_run_is_written_with_or_without_quotes(tmp_path: Path, written: str):
    made = opened(tmp_path, f"{MANIFEST}batching: {written}\n", model=doubling(["n", 2]))
    assert made._graph.batches == (written == "on")
    made.close()


async def test_rows_that_go_into_each_other_never_share_a_run(tmp_path: Path):
    table = (TensorProto.FLOAT, ["n", "m"])
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=1),  # of a single column nothing would be seen any more
        helper.make_node("ReduceMean", ["s", "axes"], ["mean"]),
        helper.make_node("Sub", ["s", "mean"], ["y"]),
    ]
    content = model(nodes, {"x": table}, {"y": table}, {"axes": np.array([0], np.int64)})
    made = opened(tmp_path, MANIFEST, model=content)
    assert "batching: off" in made.inferred
    given = [np.random.default_rng(seed).random((1, 3)).astype(np.float32) for seed in range(6)]
    answers = await asyncio.gather(*(made.infer({"x": each}) for each in given))
    assert all(np.allclose(each.outputs["y"], 0) for each in answers)
    made.close()


async def test_no_rows_are_no_answers(tmp_path: Path):
    made = opened(tmp_path, MANIFEST, model=doubling(["n", 2]))
    assert (await made.infer({"x": np.zeros((0, 2), np.float32)})).outputs["y"].shape == (0, 2)
    made.close()


async def test_what_is_wrong_with_a_row_is_said_with_its_number(tmp_path: Path, pipeline):
    made = opened(tmp_path, MANIFEST, model=exported(pipeline, X[:1], options={id(pipeline): {"zipmap": False}}))
    good = X[0].tolist()
    for bad, words in (([1.0], "has 1 numbers; the model takes 4"), ([1e300] * 4, "FP32 cannot hold")):
        with pytest.raises(ElementError, match=words) as caught:
            await made.classify([good, bad, good])
        assert caught.value.index == 1
        assert caught.value.violations[0].field == "rows[1]"
    made.close()


async def test_a_graph_without_labels_says_which_line_would_give_them(tmp_path: Path):
    regression = LinearRegression().fit(X[:, :2], X[:, 2:])
    content = exported(regression, X[:1, :2])
    made = opened(tmp_path / "a", MANIFEST, model=content)
    name = made.outputs[0].name
    with pytest.raises(NoLabelsError, match=f"add this line to model.yaml: `probabilities: {name}`"):
        await made.classify([[1.0, 2.0]])
    made.close()
    named = opened(tmp_path / "b", f"{MANIFEST}probabilities: {name}\nlabels: [long, wide]\n", model=content)
    assert (await named.classify([[1.0, 2.0]])).labels[0] in ("long", "wide")
    named.close()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("probabilities: never\n", "probabilities: the graph has no output `never`; it has y"),
        ("label: never\n", "label: the graph has no output `never`"),
        ("probabilities: y\nlabels: [a, b, c]\n", "labels: 3 names, but `y` has 2 columns"),
        ("file: other.onnx\n", "other.onnx: is missing"),
        ("fiel: model.onnx\n", "did you mean `file`?"),
    ],
)
def test_a_manifest_that_says_another_thing_than_the_file_is_refused(tmp_path: Path, manifest: str, words: str):
    with pytest.raises((ManifestError, ModelFileError)) as caught:
        opened(tmp_path, MANIFEST + manifest, model=doubling(["n", 2]))
    assert words in caught.value.message


def test_of_several_files_one_must_be_named_and_the_line_is_said(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"`file: first\.onnx`"):
        opened(tmp_path, MANIFEST, first=doubling(["n"]), second=doubling(["n"]))
    opened(tmp_path, MANIFEST + "file: second.onnx\n").close()


def test_a_locale_that_is_not_there_is_named_with_two_ways_out(tmp_path: Path):
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", locale="xx_XX.never")
    content = model([node], {"x": (TensorProto.STRING, ["n"])}, {"y": (TensorProto.STRING, ["n"])})
    with pytest.raises(ModelLoadError, match=r"install it, or export them for the locale `C`"):
        opened(tmp_path, MANIFEST, model=content)


def test_a_sequence_that_is_no_map_of_classes_is_refused_by_name(tmp_path: Path):
    node = helper.make_node("SequenceConstruct", ["x"], ["s"])
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["n"])],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    with pytest.raises(ModelFileError, match=r"'s' is of type seq\(tensor\(float\)\), which the protocol cannot carry"):
        opened(tmp_path, MANIFEST, model=content)


async def test_what_the_graph_itself_cannot_compute_is_the_callers_mistake(tmp_path: Path):
    content = model(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        {"a": (TensorProto.FLOAT, ["n", "k"]), "b": (TensorProto.FLOAT, ["m", "o"])},
        {"y": (TensorProto.FLOAT, ["n", "o"])},
    )
    made = opened(tmp_path, MANIFEST, model=content)
    with pytest.raises(InputRefusedError):
        await made.infer({"a": np.ones((2, 3), np.float32), "b": np.ones((4, 2), np.float32)})
    made.close()
