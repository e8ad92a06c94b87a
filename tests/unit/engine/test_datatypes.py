"""Every datatype of the protocol goes through a model, raw and typed, with elements and without."""

from __future__ import annotations

import asyncio
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engine.errors import ModelFileError, TensorError
from engine.scheduler.terms import PLAIN
from engine.tensor import DATATYPES, decode_raw, decode_typed, encode_raw, typed_field
from tests.unit.engine.graphs import model, opened

KINDS = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16, "BYTES": TensorProto.STRING,
}  # fmt: skip


def echo(*datatypes: str, shape=("n", 3)) -> bytes:
    """A graph that gives back what it gets: `x` as `y`, or `FP32` as `FP32_back` where there are several."""
    names = [("x", "y")] if len(datatypes) == 1 else [(name, f"{name}_back") for name in datatypes]
    pairs = list(zip(names, datatypes, strict=True))
    return model(
        [helper.make_node("Identity", [one], [other]) for (one, other), _ in pairs],
        {one: (KINDS[datatype], shape) for (one, _), datatype in pairs},
        {other: (KINDS[datatype], shape) for (_, other), datatype in pairs},
    )


def values(datatype: str, rows: int) -> np.ndarray:
    if datatype == "BYTES":
        texts = np.empty((rows, 3), object)
        texts[...] = "ä€".encode()
        return texts
    numbers = np.arange(rows * 3).reshape(rows, 3) % 2
    return numbers.astype(DATATYPES[datatype])


def test_the_protocol_is_served_whole():
    assert set(DATATYPES) == set(KINDS)


@pytest.mark.parametrize("datatype", KINDS)
async def test_a_datatype_comes_back_as_it_went_alone_in_a_batch_and_without_elements(tmp_path: Path, datatype: str):
    made = await asyncio.to_thread(opened, tmp_path, "name: m\nkind: onnx", m=echo(datatype))
    try:
        assert [(spec.datatype, spec.shape) for spec in (*made.inputs, *made.outputs)] == [(datatype, (-1, 3))] * 2
        for rows in (1, 5, 0):
            sent = decode_raw("x", datatype, [rows, 3], encode_raw(values(datatype, rows)))
            outputs = (await made.infer({"x": sent}, PLAIN)).outputs
            assert outputs["y"].dtype == DATATYPES[datatype]
            assert encode_raw(outputs["y"]) == encode_raw(sent)
            assert outputs["y"].shape == (rows, 3)
        sent = [values(datatype, rows) for rows in (1, 2, 3)]
        answers = await asyncio.gather(*(made.infer({"x": each}, PLAIN) for each in sent))
        assert [encode_raw(a.outputs["y"]) for a in answers] == [encode_raw(each) for each in sent]
    finally:
        await asyncio.to_thread(made.close)


async def test_bf16_goes_in_beside_numbers_of_other_types_and_comes_out_beside_texts(tmp_path: Path):
    graph = model(
        [
            helper.make_node("Cast", ["b"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["wide", "f"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["half"], to=TensorProto.BFLOAT16),
            helper.make_node("Cast", ["i"], ["text"], to=TensorProto.STRING),
        ],
        {name: (kind, ["n"]) for name, kind in (("b", KINDS["BF16"]), ("f", KINDS["FP32"]), ("i", KINDS["INT64"]))},
        {"half": (KINDS["BF16"], ["n"]), "text": (KINDS["BYTES"], ["n"])},
    )
    made = await asyncio.to_thread(opened, tmp_path, "name: m\nkind: onnx", m=graph)
    try:
        half = np.array([1.5, -2.25], ml_dtypes.bfloat16)
        sent = {"b": half[::-1], "f": np.array([1, 2], np.float32), "i": np.array([7, 8])}
        outputs = (await made.infer(sent, PLAIN)).outputs
        assert outputs["half"].astype(np.float32).tolist() == [-1.25, 3.5]
        assert outputs["text"].tolist() == [b"7", b"8"]
        assert made.inferred[-1] == "batching: on"
    finally:
        await asyncio.to_thread(made.close)


def test_bf16_beside_texts_that_go_in_is_refused_at_load_with_what_to_do(tmp_path: Path):
    with pytest.raises(ModelFileError, match="cast the BF16 to FP32"):
        opened(tmp_path, "name: m\nkind: onnx", m=echo("BF16", "BYTES"))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_halves_have_no_typed_contents(datatype: str):
    with pytest.raises(TensorError, match="send it in raw_input_contents"):
        typed_field("x", datatype)
    with pytest.raises(TensorError, match="send it in raw_input_contents"):
        decode_typed("x", datatype, [1], [1.0])


@given(st.lists(st.floats(width=32), max_size=8))
def test_bf16_keeps_its_bytes(numbers: list[float]):
    sent = np.array(numbers, np.float32).astype(ml_dtypes.bfloat16)
    assert encode_raw(decode_raw("x", "BF16", [len(numbers)], sent.tobytes())) == sent.tobytes()


@given(st.sampled_from(sorted(set(KINDS) - {"BYTES", "BOOL"})), st.lists(st.integers(0, 4), max_size=3), st.binary())
def test_raw_contents_of_any_length_are_a_tensor_of_that_shape_or_one_error(datatype, shape, data):
    try:
        array = decode_raw("x", datatype, shape, data)
    except TensorError as error:
        assert "bytes" in error.message
    else:
        assert array.shape == tuple(shape)
        assert encode_raw(array) == data
