"""JSON values as tensors and back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidError
from orchestrator.adapters.tensors import Tensor, from_raw, is_numeric, to_tensor


def test_a_kind_of_value_decides_the_datatype_where_the_model_does_not():
    assert to_tensor("t", ["a", "é"]) == Tensor("BYTES", (2,), b"\x01\0\0\0a\x02\0\0\0\xc3\xa9")
    assert to_tensor("t", [[1, 2], [3, 4]]) == Tensor("INT64", (2, 2), struct.pack("<4q", 1, 2, 3, 4))
    assert to_tensor("t", [1, 2.5]) == Tensor("FP32", (2,), struct.pack("<2f", 1, 2.5))
    assert to_tensor("t", [True]) == Tensor("BOOL", (1,), b"\x01")
    assert to_tensor("t", "one") == Tensor("BYTES", (1,), b"\x03\0\0\0one")


def test_base64_becomes_bytes_beside_texts_too():
    assert to_tensor("t", [{"b64": "iVBO"}, "a"]) == Tensor("BYTES", (2,), b"\x03\0\0\0\x89PN\x01\0\0\0a")
    assert to_tensor("t", {"b64": ""}) == Tensor("BYTES", (1,), b"\0\0\0\0")


def test_numbers_become_what_the_model_takes():
    assert to_tensor("t", [1, 2], "FP32") == Tensor("FP32", (2,), struct.pack("<2f", 1, 2))
    assert to_tensor("t", [1.0, 2], "INT32") == Tensor("INT32", (2,), struct.pack("<2i", 1, 2))
    assert to_tensor("t", ["a"], "FP32").datatype == "BYTES"  # the model says no, and why


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        ([1, "a"], ""), ([True, 1], ""), ([[1], [1, 2]], ""), ([[1], 2], ""), ([1, [2]], ""), ([None], ""),
        ([{"a": 1}], ""), ([{"b64": "no base64!"}], ""), ([{"b64": 1}], ""), ([{"b64": "YQ==", "a": 1}], ""),
        ([{"b64": "YQ=="}, 1], ""),
        ([1.5], "INT64"), ([300], "UINT8"), ([-1], "UINT64"), ([2**63], ""), ([1e300], "FP32"),
    ],
)  # fmt: skip
def test_what_is_no_tensor_is_refused_by_name(value, datatype):
    with pytest.raises(InvalidError, match=r"inputs\.t"):
        to_tensor("t", value, datatype)


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3), min_size=1))
def test_numbers_come_back_as_they_went(rows):
    tensor = to_tensor("t", rows)
    assert from_raw(tensor.datatype, tensor.shape, tensor.raw) == rows


@given(st.lists(st.text(), min_size=1))
def test_texts_come_back_as_they_went(texts):
    tensor = to_tensor("t", texts)
    assert from_raw(tensor.datatype, tensor.shape, tensor.raw) == texts


def test_a_number_that_json_does_not_know_is_null():
    assert from_raw("FP32", (3,), struct.pack("<3f", float("nan"), 1.5, float("inf"))) == [None, 1.5, None]


def test_a_datatype_without_values_in_json_is_refused():
    with pytest.raises(InvalidError, match="BF16"):
        from_raw("BF16", (1,), b"\0\0")


def test_an_empty_tensor_is_an_empty_list():
    assert from_raw("FP32", (0,), b"") == []
    assert from_raw("FP32", (2, 0), b"") == [[], []]
    assert to_tensor("t", []) == Tensor("BYTES", (0,), b"")


def test_numbers_are_told_from_texts_and_truth_values():
    assert [is_numeric(value) for value in ([[1.5]], 3, ["a"], [True], [], None)] == [True, True] + [False] * 4
