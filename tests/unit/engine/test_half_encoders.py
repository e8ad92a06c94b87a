"""Text encoders whose graph computes in half precision: their vectors are pooled and measured in single."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.manifest import parse_manifest
from engine.servables import Embedder
from tests.unit.engine.graphs import context_of, model
from tests.unit.engine.text_graphs import text_folder, tokenizer

WIDTH = 8
LARGE = 300.0
"""Half precision holds it, and not its square."""


def encoder(where: Path, pooling: str, normalise: bool, *, pooled: bool) -> Embedder:
    """Each token's vector is LARGE everywhere; `pooled`: the graph gives the first token's alone."""
    ids = {name: (TensorProto.INT64, ["n", "s"]) for name in ("input_ids", "attention_mask")}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Identity", ["attention_mask"], ["unused"]),
        helper.make_node("Gather", ["rows", "first"], ["tokens"], axis=1)
        if pooled
        else helper.make_node("Identity", ["rows"], ["tokens"]),
    ]
    made = tokenizer(["good", "bad"])
    weights = {"table": np.full((made.get_vocab_size(), WIDTH), LARGE, np.float16), "first": np.array(0, np.int64)}
    shape = ["n", WIDTH] if pooled else ["n", "s", WIDTH]
    outputs = {"tokens": (TensorProto.FLOAT16, shape), "unused": (TensorProto.INT64, ["n", "s"])}
    manifest = f"name: m\nkind: text-embedding\npooling: {pooling}\nnormalise: {str(normalise).lower()}\n"
    text_folder(where, manifest, made, model(nodes, ids, outputs, weights))
    return Embedder(context_of(where, parse_manifest(manifest.encode(), model="m")))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
async def test_a_vector_of_large_numbers_keeps_its_direction(tmp_path, pooling: str, normalise: bool, pooled: bool):
    made = encoder(tmp_path, pooling, normalise, pooled=pooled)
    answer = await made.infer({"text": np.array([b"good", b"good bad good"], object)})
    found = answer.outputs["embedding"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.full((2, WIDTH), WIDTH**-0.5 if normalise else LARGE), rtol=1e-5)
    made.close()
