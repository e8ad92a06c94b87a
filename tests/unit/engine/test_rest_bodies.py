"""Bodies of the Open Inference Protocol's REST side: what is read, what is refused and how, what is answered."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.errors import BodyError, BodyTooLargeError, EngineError, TensorError
from engine.oip.answers import write_answer
from engine.oip.bodies import MAX_BODY_BYTES, Body, part, unpack
from engine.oip.data import json_of_raw, raw_of_json
from engine.oip.requests import Asked, RestTensor, read_request
from engine.oip.wishes import IndexWish, RegionWish, read_wish
from engine.tensor import DATATYPES, datatype_of, decode_raw, encode_raw

NUMBERS = [name for name in DATATYPES if name not in ("BYTES", "FP16", "BF16")]
X = {"name": "x", "shape": [2], "datatype": "FP32"}


def whole(request: object) -> Body:
    """A body of JSON alone."""
    return part(json.dumps(request).encode(), None)


def parted(request: object, *tensors: bytes) -> Body:
    """A body with bytes behind the JSON."""
    text = json.dumps(request).encode()
    return part(text + b"".join(tensors), str(len(text)))


def said(data) -> list:
    return json.loads(bytes(data))


def tensors(**shapes):
    """An array of any datatype that JSON can say, of any small shape."""
    shape = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)
    finite = {"allow_nan": False, "allow_infinity": False}
    return st.sampled_from(NUMBERS).flatmap(
        lambda name: arrays.arrays(
            DATATYPES[name],
            shape,
            elements=arrays.from_dtype(DATATYPES[name], **(finite if DATATYPES[name].kind == "f" else {})),
        )
    )


@given(tensors(), st.booleans())
def test_what_is_sent_as_json_is_what_arrives(array, nested):
    data = array.tolist() if nested else array.ravel().tolist()
    sent = {"name": "x", "shape": list(array.shape), "datatype": datatype_of(array), "data": data}
    if nested and 0 in array.shape[:-1]:  # lists that hold nothing do not tell how deep they are
        sent["data"] = []
    (found,) = read_request(whole({"inputs": [sent]})).inputs
    assert found.raw == encode_raw(array)


@given(st.lists(tensors(), min_size=1, max_size=4), st.data())
def test_bytes_behind_the_json_go_to_their_own_inputs(given_arrays, data):
    sent, behind = [], []
    for at, array in enumerate(given_arrays):
        one = {"name": f"x{at}", "shape": list(array.shape), "datatype": datatype_of(array)}
        if data.draw(st.booleans()):
            behind.append(encode_raw(array))
            one["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            one["data"] = array.ravel().tolist()
        sent.append(one)
    found = read_request(parted({"inputs": sent}, *behind)).inputs
    assert [each.raw for each in found] == [encode_raw(array) for array in given_arrays]
    assert all("binary_data_size" not in each.parameters for each in found)


@pytest.mark.parametrize("data", ["[]", "[ \n]", "null"])
@pytest.mark.parametrize("behind", [b"", b"12345678"])
def test_data_that_hold_nothing_may_stand_beside_the_bytes_that_a_tensor_has(data, behind):
    x = {"name": "x", "shape": [len(behind) // 4], "datatype": "FP32", "parameters": {"binary_data_size": len(behind)}}
    text = json.dumps({"inputs": [x]})[:-3] + f', "data": {data}}}]}}'
    (found,) = read_request(part(text.encode() + behind, str(len(text)))).inputs
    assert found.raw == behind


@given(tensors(), st.booleans())
def test_an_answer_reads_back_as_what_it_was(array, as_bytes):
    raw = encode_raw(array)
    made = RestTensor("y", datatype_of(array), array.shape, raw, {"sequence": 1})
    answer = write_answer({"model_name": "m", "id": ""}, [made], Asked((), as_bytes))
    said = json.loads(answer.data[: answer.json_bytes])
    (output,) = said["outputs"]
    assert "id" not in said
    if as_bytes:
        assert output["parameters"] == {"sequence": 1, "binary_data_size": len(raw)}
        assert answer.data[answer.json_bytes :] == raw
    else:
        assert answer.json_bytes is None
        assert (
            raw_of_json("y", output["datatype"], [array.size], memoryview(json.dumps(output["data"]).encode())) == raw
        )


def test_texts_and_halves_travel_both_ways():
    texts = raw_of_json("t", "BYTES", [2], memoryview('["é", ""]'.encode()))
    assert decode_raw("t", "BYTES", [2], texts).tolist() == ["é".encode(), b""]
    assert said(json_of_raw("t", "BYTES", [2], texts)) == ["é", ""]
    half = raw_of_json("h", "FP16", [3], memoryview(b"[0.5, -2, 65504]"))
    assert np.frombuffer(half, np.float16).tolist() == [0.5, -2.0, 65504.0]
    assert said(json_of_raw("h", "FP16", [3], half)) == [0.5, -2.0, 65504.0]
    brain = raw_of_json("b", "BF16", [2], memoryview(b"[1.0, 3.140625]"))
    assert brain == b"\x80\x3f\x49\x40"
    assert said(json_of_raw("b", "BF16", [2], brain)) == [1.0, 3.140625]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "word"),
    [
        ("INT8", [1], "[128]", "no INT8"),
        ("INT64", [1], "[1.5]", "no INT64"),
        ("UINT8", [1], "[-1]", "no UINT8"),
        ("UINT64", [1], "[18446744073709551616]", "no UINT64"),
        ("FP32", [1], "[1e300]", "no FP32"),
        ("FP32", [1], "[1e999]", "no FP32"),
        ("FP32", [1], "[NaN]", "no FP32"),
        ("FP32", [1], '["1"]', "no FP32"),
        ("FP32", [1], "[true]", "no FP32"),
        ("FP16", [1], "[70000]", "no FP16"),
        ("BOOL", [1], "[1]", "no BOOL"),
        ("BYTES", [1], "[1]", "no BYTES"),
        ("BYTES", [1], '["\\ud800"]', "BYTES"),
        ("FP32", [3], "[1, 2]", "3 elements, 2"),
        ("FP32", [2, 2], "[[1, 2], [3]]", "not nested as the shape"),
        ("FP32", [2, 2], "[[1, 2, 3, 4]]", "not nested as the shape"),
        ("FP32", [4], "[[1, 2], [3, 4]]", "nested 2 deep"),
        ("FP32", [1], "[" * 100_000, "deep"),
        ("FP32", [1], "1", "nested 0 deep"),
        ("FP32", [1], "null", "nested 0 deep"),
        ("FP32", [-1], "[1]", "never negative"),
        ("FP32", [2**40], "[1]", "too large"),
        ("FP31", [1], "[1]", "not known"),
    ],
)
def test_data_that_are_not_what_they_say_are_refused_by_name(datatype, shape, data, word):
    with pytest.raises(TensorError) as caught:
        raw_of_json("odd", datatype, shape, memoryview(data.encode()))
    assert "'odd'" in caught.value.message
    assert word in caught.value.message


@pytest.mark.parametrize(
    ("request_", "behind", "word"),
    [
        ({"inputs": [{**X, "parameters": {"binary_data_size": 9}}]}, b"12345678", "9 bytes, and 8 are left"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": -1}}]}, b"", "no number of bytes"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": True}}]}, b"1", "no number of bytes"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": 1e3}}]}, b"1", "no number of bytes"),
        ({"inputs": [{**X, "data": [1, 2], "parameters": {"binary_data_size": 8}}]}, b"12345678", "both"),
        ({"inputs": [{**X, "data": [1], "parameters": {"binary_data_size": 0}}]}, b"", "both"),
        ({"inputs": [{**X, "data": [[]], "parameters": {"binary_data_size": 0}}]}, b"", "both"),
        ({"inputs": [{**X, "data": {}, "parameters": {"binary_data_size": 0}}]}, b"", "both"),
        ({"inputs": [{**X, "data": "", "parameters": {"binary_data_size": 0}}]}, b"", "both"),
        ({"inputs": [{**X, "data": [], "parameters": {"shared_memory_region": "r"}}]}, b"", "both"),
        ({"inputs": [{**X, "data": [1, 2], "parameters": {"shared_memory_region": "r"}}]}, b"", "both"),
        ({"inputs": [X]}, b"", "neither"),
        ({"inputs": [{**X, "data": [1, 2]}]}, b"!", "1 bytes follow"),
        ({"inputs": [{**X, "data": [1, 2]}], "parameters": {"a": [1]}}, b"", "parameters.a"),
        ({"inputs": [{**X, "data": [1, 2]}], "parameters": {"a": 2**64}}, b"", "parameters.a"),
        ({"inputs": [{**X, "data": [1, 2]}], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, b"",
         "outputs[0].parameters.binary_data"),
        ({"inputs": [{"name": "x", "datatype": "FP32"}]}, b"", "shape"),
        ({"inputs": {}}, b"", "`inputs`"),
        ({"inputs": [{**X, "shape": [2**70], "data": []}]}, b"", "shape"),
        ({}, b"", "inputs"),
        ([], b"", "object"),
        ({"inputs": [{**X, "data": [1, 2]}] * 5000}, b"", "more than 4096"),
    ],
)  # fmt: skip
def test_requests_that_lie_are_refused_in_words_that_say_where(request_, behind, word):
    with pytest.raises(EngineError) as caught:
        read_request(parted(request_, behind))
    assert caught.value.code == 3
    assert word in caught.value.message


@pytest.mark.parametrize("length", ["", "-1", "+5", "0x10", "1e3", "99999999999", "4", "٣"])
def test_a_length_that_is_none_or_points_past_the_end_is_refused(length):
    with pytest.raises(BodyError, match="Inference-Header-Content-Length"):
        part(b"{} ", length)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 250).map(str)))
def test_whatever_comes_is_read_or_refused(data, length):
    try:
        read_request(part(data, length))
    except EngineError as error:
        assert error.code == 3


@given(st.data())
def test_a_request_that_was_damaged_is_read_or_refused(data):
    request = {"id": "r", "inputs": [{**X, "data": [1.5, 2]}, {**X, "parameters": {"binary_data_size": 8}}]}
    text = bytearray(json.dumps(request).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        read_request(part(bytes(text) + b"12345678", str(len(text))))
    except EngineError as error:
        assert error.code == 3


def test_packed_bodies_are_unpacked_within_a_bound():
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for encoding, data in (
        ("", b"x"), ("identity", b"x"), ("gzip", gzip.compress(b"x")), ("GZIP ", gzip.compress(b"x")),
        ("deflate", zlib.compress(b"x")), ("deflate", bare.compress(b"x") + bare.flush()),
    ):  # fmt: skip
        assert unpack(data, encoding) == b"x"
    bomb = gzip.compress(bytes(MAX_BODY_BYTES + 1), 1)
    with pytest.raises(BodyTooLargeError):
        unpack(bomb, "gzip")
    for encoding, data in (
        ("gzip", b"x"), ("gzip", gzip.compress(b"x")[:-1]), ("gzip", gzip.compress(b"x") + b"!"),
        ("deflate", b"\xff\xff"), ("deflate", b""), ("br", b"x"), ("gzip, gzip", b"x"),
    ):  # fmt: skip
        with pytest.raises(BodyError, match=r"Content-Encoding|cut off"):
            unpack(data, encoding)


def test_what_json_cannot_say_is_asked_for_as_bytes():
    nan = np.array([np.nan], np.float32).tobytes()
    for datatype, raw in (("FP32", nan), ("BYTES", b"\x01\0\0\0\xff")):
        with pytest.raises(TensorError, match="binary_data"):
            write_answer({}, [RestTensor("y", datatype, [1], raw)], Asked((), all_as_bytes=False))


def test_small_objects_may_be_left_out():
    assert read_wish(b"", IndexWish) == read_wish(b" \n", IndexWish) == IndexWish()
    assert read_wish(b'{"ready": true, "repository": "x"}', IndexWish) == IndexWish(ready=True)
    for data in (b"[]", b"{", b"\xff", b'{"a":' * 100_000, b'{"ready": 1}'):
        with pytest.raises(BodyError):
            read_wish(data, IndexWish)
    with pytest.raises(BodyError, match="key"):
        read_wish(b"", RegionWish)
    with pytest.raises(BodyError, match="byte_size"):
        read_wish(b'{"key": "/k", "byte_size": -1}', RegionWish)


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL", "BF16", "BYTES"])
def test_what_is_read_and_written_in_pieces_is_as_if_it_were_not(datatype):
    count = 100_003
    numbers = np.arange(count) % (2 if datatype == "BOOL" else 251)
    values = [str(each) for each in numbers] if datatype == "BYTES" else numbers.astype(DATATYPES[datatype]).tolist()
    text = json.dumps(values).replace("[", " [ ", 1)
    raw = raw_of_json("x", datatype, [count], memoryview(text.encode()))
    assert said(json_of_raw("x", datatype, [count], raw)) == values
    for shape, word in (([count - 1], f"{count} were sent"), ([-1], "never|sent"), ([0, -1], "never|sent")):
        with pytest.raises(TensorError, match=word):
            raw_of_json("x", datatype, shape, memoryview(text.encode()))
    if datatype != "BYTES":
        for wrong in ('"a,b"', "null", "[1]", "1e999"):
            broken = text.replace("]", f", {wrong}]")
            with pytest.raises(TensorError, match=f"no {datatype}"):
                raw_of_json("x", datatype, [count + 1], memoryview(broken.encode()))
