"""Rows of named values: scikit-learn's pipelines, whatever their inputs are, and every way to send a wrong value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engine.errors import ElementError, InputRefusedError, ManifestError, NoLabelsError, TensorError
from engine.manifest import Column, parse_manifest
from engine.servables import OnnxModel, TabularModel
from engine.servables.columns import place
from engine.tensor import TensorSpec
from tests.unit.engine.graphs import context_of, folder, model
from tests.unit.engine.tables import exported, houses, mixed_pipeline, price_pipeline

MANIFEST = "name: m\nkind: tabular\n"
PLAIN = "name: m\nkind: onnx\n"


def opened(where: Path, manifest: str, graph: bytes) -> TabularModel:
    made = folder(where, MANIFEST + manifest, model=graph)
    parsed = parse_manifest((MANIFEST + manifest).encode(), model="m")
    return TabularModel(context_of(made, parsed))


@pytest.fixture(scope="module")
def pipelines() -> dict[str, bytes]:
    """A regression and a classification of a number and a text, an input a column; and one of a matrix."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression

    areas, _, prices = houses()
    dear = np.where(prices > 150_000, "dear", "cheap")
    return {
        "regression": price_pipeline(),
        "classification": mixed_pipeline(RandomForestClassifier(20, random_state=1), dear),
        "matrix": exported(
            LinearRegression().fit(np.stack([areas, areas**2], 1), np.stack([areas * 2, areas**2], 1)),
            [("x", FloatTensorType([None, 2]))],
        ),
    }


async def test_a_regression_takes_numbers_and_texts_by_name(tmp_path, pipelines):
    made = opened(tmp_path, "", pipelines["regression"])
    assert {"columns: [area, town]", "task: regression", "output: variable"} <= set(made.inferred)
    records = [{"area": 100, "town": "Bern"}, {"town": "Chur", "area": 50.5}] * 12
    found = await made.regress(records, "records")
    assert found.shape == (24, 1)
    assert found[:2, 0] == pytest.approx([100_000, 150_500], rel=1e-3)
    assert np.allclose(found, np.tile(found[:2], (12, 1)))
    with pytest.raises(NoLabelsError, match="ask Regress"):
        await made.classify([[1.0, 2.0]])
    made.close()


async def test_a_classification_gives_labels_and_the_tensors_stay_as_they_are(tmp_path, pipelines):
    made = opened(tmp_path, "", pipelines["classification"])
    assert {"task: classification", "labels: [cheap, dear]"} <= set(made.inferred)
    found = await made.classify_records([{"area": 40, "town": "Bern"}, {"area": 190, "town": "Chur"}], "records")
    assert found.labels == ["cheap", "dear"]
    town = np.array([[b"Bern"], [b"Chur"]], object)
    answer = await made.infer({"area": np.array([[40], [190]], np.float32), "town": town})
    assert [label.decode() for label in answer.outputs["output_label"]] == found.labels
    with pytest.raises(NoLabelsError, match="ask Classify"):
        await made.regress([{"area": 1, "town": "Bern"}], "records")
    made.close()


async def test_a_matrix_has_columns_too_and_several_numbers_may_come_out(tmp_path, pipelines):
    made = opened(tmp_path, "columns: [side, square]\n", pipelines["matrix"])
    by_name = await made.regress([{"side": 3, "square": 9}], "records")
    in_order = await made.regress(made.columns.records([[3, 9]], "rows"), "rows")
    assert by_name.tolist() == in_order.tolist()
    assert by_name[0] == pytest.approx([6, 9], abs=1e-2)
    made.close()
    unnamed = opened(tmp_path / "u", "", pipelines["matrix"])
    assert "columns: [x.0, x.1]" in unnamed.inferred
    unnamed.close()


COLUMNS = "columns:\n  - {name: area, missing: 80}\n  - {name: town, categories: [Bern, Basel, Chur], missing: Bern}\n"


async def test_missing_values_are_what_the_manifest_says_stands_for_them(tmp_path, pipelines):
    made = opened(tmp_path, COLUMNS, pipelines["regression"])
    found = await made.regress([{}, {"area": None, "town": None}, {"area": 80, "town": "Bern"}], "records")
    assert found[0] == found[1] == found[2]
    made.close()


WRONG = {
    "a text for a number": ("", {"area": "80", "town": "Bern"}, "area: is the text '80'; the column holds numbers"),
    "a number for a text": ("", {"area": 80, "town": 3}, "town: is 3; the column holds texts"),
    "a missing value": ("", {"area": 80}, "town: is missing; send it, or say in model.yaml"),
    "a null": ("", {"area": None, "town": "Bern"}, "area: is missing"),
    "an unknown column": ("", {"aera": 80, "town": "Bern"}, "the model has no column `aera`; did you mean `area`?"),
    "an unknown category": (
        COLUMNS,
        {"town": "Berne"},
        "town: is 'Berne', which is none of its categories, Bern, Basel, Chur; did you mean `Bern`?",
    ),
    "a number too large": ("", {"area": 1e300, "town": "Bern"}, "area: is 1e+300, which FP32 cannot hold"),
    "no number": ("", {"area": math.nan, "town": "Bern"}, "area: is no number; leave it out where it is missing"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_value_is_named_by_row_and_column(tmp_path, pipelines, case):
    manifest, record, words = WRONG[case]
    made = opened(tmp_path, manifest, pipelines["regression"])
    with pytest.raises(ElementError) as caught:
        await made.regress([{"area": 1, "town": "Bern"}, record], "records")
    assert caught.value.message.startswith("records[1]: ")
    assert words in caught.value.message
    made.close()


async def test_a_tensor_holds_categories_of_its_column_alone(tmp_path, pipelines):
    made = opened(tmp_path, COLUMNS, pipelines["regression"])
    areas = np.ones((3, 1), np.float32)

    def towns(*names: bytes):
        return np.array([[name] for name in names], object)

    await made.infer({"area": areas, "town": towns(b"Bern", b"Chur", b"Basel")})
    for wrong, words in ((b"Berne", "did you mean `Bern`?"), (b"\xff", "'\ufffd', which is none"), (b"", "'', which")):
        with pytest.raises(TensorError) as caught:
            await made.infer({"area": areas, "town": towns(b"Bern", b"Chur", wrong)})
        assert caught.value.message.startswith("tensor 'town': row 2: town: is ")
        assert "none of its categories, Bern, Basel, Chur" in caught.value.message
        assert words in caught.value.message
    made.close()


async def test_a_category_that_only_the_graph_does_not_know_is_no_fault_of_the_runtime(tmp_path):
    encoder = helper.make_node(
        "OneHotEncoder", ["town"], ["y"], domain="ai.onnx.ml", cats_strings=["Bern", "Chur"], zeros=0
    )
    graph = onnx.load_from_string(
        model([encoder], {"town": (TensorProto.STRING, ["n", 1])}, {"y": (TensorProto.FLOAT, ["n", 1, 2])})
    )
    graph.opset_import.add(domain="ai.onnx.ml", version=3)
    made = OnnxModel(
        context_of(folder(tmp_path, PLAIN, model=graph.SerializeToString()), parse_manifest(PLAIN.encode(), model="m"))
    )
    with pytest.raises(InputRefusedError, match="Unknown Category"):
        await made.infer({"town": np.array([[b"Basel"]], object)})
    made.close()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("columns: [a]\n", "columns: 1 names, and the graph takes 2 columns"),
        ("columns: [a, a]\n", "columns: `a` is there twice"),
        ("columns: [{name: area, missing: few}, town]\n", "what stands for a missing `area` is the text 'few'"),
        ("columns: [{name: area, categories: [a]}, town]\n", "columns: `area` holds FP32, and categories are texts"),
        ("columns: [area, {name: town, categories: [a], missing: b}]\n", "`town` is none of its categories"),
        ("columns: [area, {name: town, catgories: [a]}]\n", "unknown key `columns[1].catgories`"),
        ("output: label\n", "output: `label` is no output of numbers; those are variable"),
        ("task: classification\n", "probabilities"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told_so(tmp_path, pipelines, manifest, words):
    with pytest.raises(ManifestError) as caught:
        opened(tmp_path, manifest, pipelines["regression"])
    assert words in caught.value.message


KINDS = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT8": np.int8, "BOOL": np.bool_}
CELL = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(-(2**70), 2**70), st.text(max_size=5))


@given(st.lists(st.tuples(st.sampled_from([*KINDS, "BYTES"]), CELL), min_size=1, max_size=6))
def test_every_value_is_either_kept_exactly_or_refused_by_name(cells):
    inputs = [TensorSpec(f"c{at}", kind, (-1, 1)) for at, (kind, _) in enumerate(cells)]
    columns, _ = place(inputs, [])
    record = {f"c{at}": value for at, (_, value) in enumerate(cells)}
    try:
        tensors = columns.tensors([record], "records")
    except ElementError as error:
        assert error.message.startswith("records[0]: c")
        return
    for at, (kind, value) in enumerate(cells):
        held = tensors[f"c{at}"][0, 0]
        if kind == "BYTES":
            assert held == value.encode()
        else:
            assert tensors[f"c{at}"].dtype == KINDS[kind]
            assert held == KINDS[kind](value)


def test_columns_of_several_inputs_follow_each_other():
    inputs = [TensorSpec("x", "FP32", (-1, 2)), TensorSpec("town", "BYTES", (-1,)), TensorSpec("n", "INT64", (-1, -1))]
    columns, lines = place(inputs, [Column(name) for name in "abcde"])
    made = columns.tensors([{"a": 1, "b": 2, "c": "z", "d": 4, "e": 5}] * 3, "records")
    assert lines == ()
    assert made["x"].tolist() == [[1, 2]] * 3
    assert made["town"].tolist() == [b"z"] * 3
    assert made["n"].tolist() == [[4, 5]] * 3
    with pytest.raises(ManifestError, match=r"`columns: \[first, second\]`"):
        place(inputs, [])
    nan = columns.tensors([{"a": 1, "b": 2, "c": "z", "d": 4, "e": 5}], "records")
    assert nan["x"].dtype == np.float32
