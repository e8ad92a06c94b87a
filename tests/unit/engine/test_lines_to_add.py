"""What cannot be seen in a model's files is asked for with the line to add: whoever adds line after line gets there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.errors import ManifestError, ModelFileError
from tests.unit.engine.graphs import doubling, folder, mean_of_channels, model, opened
from tests.unit.engine.shelf import Shelf

ONE = (TensorProto.FLOAT, ["n", 1])
_LINE = re.compile(r"(?:add|write) (?:this|the) line[^`]*`([^`]+)`")


def beside(*names: str, shape=ONE) -> bytes:
    """A graph that gives each input again, doubled."""
    nodes = [helper.make_node("Add", [name, name], [f"{name}2"]) for name in names]
    return model(nodes, dict.fromkeys(names, shape), {f"{name}2": shape for name in names})


def texts(shape) -> bytes:
    """A graph that gives its texts again."""
    kind = (TensorProto.STRING, shape)
    return model([helper.make_node("Identity", ["s"], ["t"])], {"s": kind}, {"t": kind})


GRAPHS: Mapping[str, tuple[str, dict[str, bytes], list[str]]] = {
    "nothing is said of it": ("", {"model": doubling(["n", 2])}, ["kind"]),
    "two files": ("kind: onnx\n", {"a": doubling(["n", 2]), "b": doubling(["n", 2])}, ["file"]),
    "images of any measure": (
        "kind: image-classification\n",
        {"model": mean_of_channels(["n", 3, "h", "w"], [2, 3], softmax=True)},
        ["size", "scale"],
    ),
    "channels of any number": (
        "kind: image-classification\n",
        {"model": mean_of_channels(["n", "c", "h", "w"], [2, 3], softmax=True)},
        ["layout", "size", "channels", "scale"],
    ),
    "numbers that may be anything": (
        "kind: tabular\ntask: classification\n",
        {"model": doubling(["n", 3])},
        ["probabilities"],
    ),
    "two outputs of numbers": ("kind: tabular\ntask: regression\n", {"model": beside("a", "b")}, ["output"]),
    "rows that are asked to share runs and cannot": (
        "kind: onnx\nbatching: on\n",
        {"model": doubling([3])},
        ["batching"],
    ),
    "a single number that is asked to share runs": (
        "kind: onnx\nbatching: on\n",
        {"model": doubling([])},
        ["batching"],
    ),
    "a fixed number of rows that is asked to share runs": (
        "kind: onnx\nbatching: on\n",
        {"model": doubling([4, 2])},
        ["batching"],
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
async def test_whoever_adds_the_lines_that_are_asked_for_gets_a_model(shelf: Shelf, case: str):
    repository = await shelf.started()
    said, files, keys = GRAPHS[case]
    manifest, asked = f"name: m\n{said}", []
    for _ in range(len(keys) + 1):
        shelf.pushed += 1
        staged = folder(shelf.root / "models" / f".upload-engine.{shelf.pushed}", manifest, **files)
        try:
            entry = await repository.pushed.keep("tenants/t/models/m", 0, staged, [], {}, load=True)
        except ManifestError as error:
            found = _LINE.search(error.message)
            assert found, error.message
            key = found[1].partition(":")[0]
            asked.append(key)
            kept = [line for line in manifest.splitlines() if not line.startswith(f"{key}:")]
            manifest = "\n".join([*kept, found[1]]) + "\n"
        else:
            assert (repository.state(entry), asked) == ("READY", keys)
            return
    pytest.fail(f"still asked for more: {asked}")


@pytest.mark.parametrize(
    ("content", "tensors"),
    [
        (doubling(["a", "b", "c"]), {"x": np.ones((2, 3, 1), np.float32)}),
        (doubling([3]), {"x": np.ones(3, np.float32)}),
        (doubling([]), {"x": np.array(2.5, np.float32)}),
        (doubling([2, 2]), {"x": np.ones((2, 2), np.float32)}),
        (beside("a", "b"), {"a": np.ones((2, 1), np.float32), "b": np.zeros((2, 1), np.float32)}),
        (beside("a", "b", shape=(TensorProto.FLOAT, [])), {name: np.array(1, np.float32) for name in "ab"}),
        (texts(["n"]), {"s": np.array([b"one", b"two"], object)}),
        (texts(["n", "k"]), {"s": np.array([[b"one", b"two"]], object)}),
        (texts([]), {"s": np.array(b"one", object)}),
    ],
    ids=["free", "no rows", "a number", "fixed", "two", "two numbers", "texts", "texts in rows", "a text"],
)
async def test_graphs_of_any_form_answer_without_a_line_more(tmp_path: Path, content: bytes, tensors):
    made = opened(tmp_path, "name: m\nkind: onnx\n", model=content)
    given, (out, *_) = next(iter(tensors.values())), (await made.infer(tensors)).outputs.values()
    assert out.shape == given.shape
    assert out.tolist() == (given if given.dtype == object else given * 2).tolist()
    made.close()


@pytest.mark.parametrize("kind", ["text-embedding", "text-classification", "token-classification", "text-generation"])
async def test_a_tokenizer_that_was_not_pushed_is_asked_for(shelf: Shelf, kind: str):
    repository = await shelf.started()
    ids = (TensorProto.INT64, ["n", "s"])
    nodes = [helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in ("input_ids",)]
    nodes.append(helper.make_node("Identity", ["attention_mask"], ["unused"]))
    content = model(
        nodes,
        {"input_ids": ids, "attention_mask": ids},
        {"input_ids_f": (TensorProto.FLOAT, ["n", "s"]), "unused": ids},
    )
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: is missing; push the tokenizer together with model"):
        await shelf.push(repository, manifest=f"name: m\nkind: {kind}\n", content=content)
