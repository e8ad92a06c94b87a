"""Tensors on the wire: a shape never makes more work than its bytes are worth."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import TensorError
from engine.tensor import DATATYPES, decode_raw, decode_typed

WIDE = 2**31 - 1
TYPED = [datatype for datatype in DATATYPES if datatype not in ("FP16", "BF16")]


@pytest.mark.parametrize("shape", [[WIDE, 0], [0, WIDE, WIDE, WIDE], [0, 2**20 + 1], [0, *[2] * 15, 2**6]])
def test_a_shape_without_elements_is_bounded_in_every_datatype_raw_and_typed(shape):
    for datatype in DATATYPES:
        with pytest.raises(TensorError):
            decode_raw("t", datatype, shape, b"")
    for datatype in TYPED:
        with pytest.raises(TensorError):
            decode_typed("t", datatype, shape, [])


@pytest.mark.parametrize("shape", [[0], [0, 384], [4, 0], [2, 32, 0, 128], [2**20, 0]])
def test_ordinary_tensors_without_elements_are_taken(shape):
    for datatype in DATATYPES:
        assert decode_raw("t", datatype, shape, b"").shape == tuple(shape)
    for datatype in TYPED:
        assert decode_typed("t", datatype, shape, []).shape == tuple(shape)


def test_a_large_tensor_with_all_its_bytes_is_taken():
    assert decode_raw("t", "BOOL", [2**21, 1], bytes(2**21)).shape == (2**21, 1)
    assert decode_typed("t", "INT64", [1, 3], [1, 2, 3]).dtype == np.int64


def test_large_whole_numbers_are_no_fractions():
    largest = [0, 2**63, 2**64 - 1]
    assert decode_typed("x", "UINT64", [3], largest).tolist() == largest
    with pytest.raises(TensorError, match="no UINT64"):
        decode_typed("x", "UINT64", [2], [0.0, 2**63])
