"""Explanations: Shapley values against their definition, for every method, and sums that come to the answer."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engine.errors import ExplanationError, ManifestError
from engine.explain.additive import Leaves
from engine.explain.reading import read_form
from engine.explain.shapley import by_orders, by_subsets
from engine.servables import TabularModel
from tests.unit.engine.graphs import model
from tests.unit.engine.tables import exported, houses, mixed_pipeline
from tests.unit.engine.test_tabular import opened

BACKGROUND = [[0.1, 0.9, 0.5, 0.2], [0.8, 0.3, 0.4, 0.7], [0.5, 0.5, 0.1, 0.9]]
COLUMNS = ("a", "b", "c", "d")
ROW = dict(zip(COLUMNS, (0.9, 0.2, 0.7, 0.6), strict=True))


def definition(value, columns: int) -> np.ndarray:
    """Shapley values of a game by all orders: what each column adds when it comes."""
    totals = np.zeros(columns)
    for order in itertools.permutations(range(columns)):
        there: set[int] = set()
        for column in order:
            before = value(frozenset(there))
            there.add(column)
            totals[column] += value(frozenset(there)) - before
    return totals / math.factorial(columns)


def manifest() -> str:
    rows = "\n".join(f"  - {{{', '.join(f'{n}: {v}' for n, v in zip(COLUMNS, r, strict=True))}}}" for r in BACKGROUND)
    return f"columns: [{', '.join(COLUMNS)}]\nbackground:\n{rows}\n"


def data(count: int = 300):
    random = np.random.default_rng(5)
    x = random.random((count, 4)).astype(np.float32)
    return x, 3 * x[:, 0] * x[:, 1] + x[:, 2] ** 2 - x[:, 3]


def trained(kind: str) -> bytes:
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPRegressor

    x, y = data()
    two, three = (y > 0.5).astype(int), np.digitize(y, [0.2, 0.8])
    made = {
        "linear": (LinearRegression(), y),
        "logistic": (LogisticRegression(), two),
        "logistic of three": (LogisticRegression(), three),
        "boosted": (GradientBoostingRegressor(n_estimators=8, max_depth=3), y),
        "boosted classes": (GradientBoostingClassifier(n_estimators=5), two),
        "boosted three": (GradientBoostingClassifier(n_estimators=5), three),
        "forest": (RandomForestClassifier(5, max_depth=4, random_state=2), two),
        "forest of three": (RandomForestClassifier(5, max_depth=4, random_state=2), three),
        "network": (MLPRegressor(hidden_layer_sizes=(4,), max_iter=4000, tol=1e-3, random_state=1), y),
    }[kind]
    return exported(made[0].fit(x, made[1]), [("x", FloatTensorType([None, 4]))])


METHODS = {
    "linear": ("linear", "value"),
    "logistic": ("linear", "margin"),
    "logistic of three": ("linear", "margin"),
    "boosted": ("trees", "value"),
    "boosted classes": ("trees", "margin"),
    "boosted three": ("trees", "margin"),
    "forest": ("trees", "probability"),
    "forest of three": ("trees", "probability"),
    "network": ("subsets", "value"),
}


async def answer(made: TabularModel, records, output: int, unit: str) -> np.ndarray:
    """What is explained of rows, from the model's own answers."""
    if unit == "value":
        return (await made.regress(records, "records"))[:, output].astype(np.float64)
    table = (await made.classify_records(records, "records")).all_scores.astype(np.float64)
    if unit == "probability":
        return table[:, output]
    return np.log(table[:, output] / (1 - table[:, output])) if table.shape[1] == 2 else table[:, output]


@pytest.mark.parametrize("kind", METHODS)
async def test_values_are_those_of_the_definition_and_come_to_the_answer(tmp_path, kind):
    method, unit = METHODS[kind]
    made = opened(tmp_path, manifest(), trained(kind))
    outputs = [0] if unit == "value" else [0, 1]
    (found,) = await made.explain([ROW], [outputs])
    subsets = [frozenset(s) for size in range(5) for s in itertools.combinations(range(4), size)]
    mixed = [
        {name: ROW[name] if at in subset else row[at] for at, name in enumerate(COLUMNS)}
        for subset in subsets
        for row in BACKGROUND
    ]
    for output, why in zip(outputs, found, strict=True):
        assert (why.method, why.unit) == (method, unit)
        assert why.base + why.values.sum() == pytest.approx(why.value, abs=1e-5)
        assert not why.errors.any()
        if unit == "margin" and "three" in kind:
            continue  # of three classes margins are not to be had back from probabilities
        worth = (await answer(made, mixed, output, unit)).reshape(len(subsets), len(BACKGROUND)).mean(axis=1)
        game = dict(zip(subsets, worth, strict=True))
        assert why.base == pytest.approx(game[frozenset()], abs=1e-4)
        assert why.values == pytest.approx(definition(lambda there, game=game: game[there], 4), abs=1e-4)
    made.close()


async def test_texts_are_explained_by_running_the_model(tmp_path):
    from sklearn.linear_model import LinearRegression

    lines = "background: [{area: 80, town: Bern}, {area: 120, town: Basel}]\n"
    made = opened(tmp_path, lines, mixed_pipeline(LinearRegression(), houses()[2]))
    ((why,),) = await made.explain([{"area": 100, "town": "Chur"}], [[0]])
    assert (why.method, why.unit) == ("subsets", "value")
    assert why.values == pytest.approx([0, 75_000], abs=100)
    assert why.base == pytest.approx(125_000, abs=100)
    made.close()


async def test_many_columns_are_estimated_and_the_error_is_said(tmp_path):
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.neural_network import MLPRegressor

    random = np.random.default_rng(1)
    x = random.random((200, 20)).astype(np.float32)
    network = MLPRegressor(hidden_layer_sizes=(8,), max_iter=2000, tol=1e-3, random_state=1).fit(
        x, x[:, 0] * 4 * x[:, 1] - 2 * x[:, 2]
    )
    names = [f"c{at}" for at in range(20)]
    rows = ", ".join(
        "{" + ", ".join(f"{name}: {value:.3f}" for name, value in zip(names, r, strict=True)) + "}" for r in x[:3]
    )
    lines = f"columns: [{', '.join(names)}]\nbackground: [{rows}]\n"
    made = opened(tmp_path, lines, exported(network, [("x", FloatTensorType([None, 20]))]))
    ((why,),) = await made.explain([dict(zip(names, x[9].tolist(), strict=True))], [[0]])
    assert why.method == "orders"
    assert why.base + why.values.sum() == pytest.approx(why.value, abs=1e-3)
    assert 0 < why.errors.max() < 0.2
    ((again,),) = await made.explain([dict(zip(names, x[9].tolist(), strict=True))], [[0]])
    assert again.values.tolist() == why.values.tolist()
    made.close()


async def test_without_a_background_or_for_too_many_rows_there_is_a_line_to_add(tmp_path):
    made = opened(tmp_path / "a", "columns: [a, b, c, d]\n", trained("linear"))
    with pytest.raises(ExplanationError, match=r"add typical ones to model.yaml: `background: \[{a: …, b: …"):
        await made.explain([ROW], [[0]])
    made.close()
    made = opened(tmp_path / "b", manifest(), trained("linear"))
    with pytest.raises(ExplanationError, match="at most 64 rows"):
        await made.explain([ROW] * 65, [[0]] * 65)
    made.close()
    with pytest.raises(ManifestError, match=r"background\[0\]: b: is missing"):
        opened(tmp_path / "c", "columns: [a, b, c, d]\nbackground: [{a: 1}]\n", trained("linear"))


def tree_graph(modes: list[str], truth: list[int], otherwise: list[int], targets: int = 1) -> bytes:
    """A tree of 3 inner nodes and 4 leaves, of one column each."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=targets,
        nodes_treeids=[0] * 7,
        nodes_nodeids=list(range(7)),
        nodes_featureids=[0, 1, 2, 0, 0, 0, 0],
        nodes_values=[0.5, 0.25, 0.75, 0.0, 0.0, 0.0, 0.0],
        nodes_modes=modes,
        nodes_truenodeids=truth,
        nodes_falsenodeids=otherwise,
        target_treeids=[0] * 4,
        target_nodeids=[3, 4, 5, 6],
        target_ids=[0] * 4,
        target_weights=[1.0, 2.0, 4.0, 8.0],
    )
    import onnx

    graph = onnx.ModelProto.FromString(
        model([node], {"x": (TensorProto.FLOAT, ["n", 3])}, {"y": (TensorProto.FLOAT, ["n", 1])})
    )
    graph.opset_import.add(domain="ai.onnx.ml", version=3)
    return graph.SerializeToString()


@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"])
def test_every_kind_of_branch_is_read_as_the_runtime_reads_it(tmp_path, mode):
    from engine.runtime.sessions import SessionSettings, open_session

    path = tmp_path / "t.onnx"
    path.write_bytes(tree_graph([mode] * 3 + ["LEAF"] * 4, [1, 3, 5, 0, 0, 0, 0], [2, 4, 6, 0, 0, 0, 0]))
    form = read_form(path, 3)
    rows = np.array(list(itertools.product([0.0, 0.25, 0.5, 0.75, 1.0], repeat=3)), np.float32)
    session = open_session(path, SessionSettings())
    assert form.values(rows.astype(np.float64)).tolist() == session.run({"x": rows})["y"].tolist()
    session.close()


@pytest.mark.parametrize(
    "graph",
    [
        tree_graph(["BRANCH_LEQ"] * 3 + ["LEAF"] * 4, [0, 1, 2, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0, 0]),
        tree_graph(["BRANCH_EQ"] * 3 + ["LEAF"] * 4, [1, 3, 5, 0, 0, 0, 0], [2, 4, 6, 0, 0, 0, 0]),
        tree_graph(["BRANCH_LEQ"] * 3 + ["LEAF"] * 4, [1, 3, 5, 0, 0, 0, 0], [2, 4, 99, 0, 0, 0, 0]),
        tree_graph(["BRANCH_LEQ"] * 3 + ["LEAF"] * 4, [1, 3, 5, 0, 0, 0, 0], [2, 4, 6, 0, 0, 0, 0], 2**40),
    ],
)
def test_trees_that_are_none_are_not_read(tmp_path: Path, graph: bytes):
    path = tmp_path / "t.onnx"
    path.write_bytes(graph)
    assert read_form(path, 3) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
async def test_boxes_have_the_values_of_the_definition(seed, columns):
    random = np.random.default_rng(seed)
    low = np.where(random.random((12, columns)) < 0.5, -np.inf, random.random((12, columns)) - 0.3)
    high = np.where(random.random((12, columns)) < 0.5, np.inf, random.random((12, columns)) + 0.3)
    leaves = Leaves(low, high, random.normal(size=(12, 2)), np.zeros(2))
    row, background = random.random(columns), random.random((3, columns))

    def value(there) -> float:
        mixed = np.where([at in there for at in range(columns)], row, background)
        return leaves.values(mixed)[:, 1].mean()

    found = leaves.attributions(row, background)
    assert found.shape == (2, columns)
    assert found[1] == pytest.approx(definition(value, columns), abs=1e-9)

    async def play(own, rows):
        return leaves.values(np.where(own, row, background[rows]))[:, 1]

    exact = await by_subsets(play, columns, 3)
    assert exact.values == pytest.approx(found[1], abs=1e-9)
    near = await by_orders(play, columns, 3, 60 * (columns + 1), np.random.default_rng(0))
    assert near.values.sum() == pytest.approx(found[1].sum(), abs=1e-9)
    assert (np.abs(near.values - found[1]) <= 6 * near.errors + 0.35).all()
