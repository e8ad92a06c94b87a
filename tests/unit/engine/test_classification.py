"""Outputs as classes: the largest values first, whatever their type and shape, with labels where these are known."""

from __future__ import annotations

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.errors import ParameterError, TensorError
from engine.oip.classification import classes_of, read_count

SORTS = ["u1", "u8", "i1", "i8", "f2", "f4", "f8", ml_dtypes.bfloat16]


@pytest.mark.parametrize("sort", SORTS)
def test_the_largest_come_first_and_of_equal_ones_the_first(sort):
    values = np.array([[1, 3, 2, 3], [0, 0, 9, 1]], sort)
    told = classes_of("y", values, 2, (), rows=True)
    shown = [[text.decode().split(":") for text in row] for row in told]
    assert [[int(place) for _, place in row] for row in shown] == [[1, 3], [2, 3]]
    assert [[float(value) for value, _ in row] for row in shown] == [[3, 3], [9, 1]]


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(sort) for sort in ("u8", "i8", "f4", "f8")]),
        st.tuples(st.integers(0, 4), st.integers(0, 6)),
    ),
    st.integers(1, 9),
)
def test_every_row_is_told_in_falling_order(values, count):
    told = classes_of("y", values, count, (), rows=True)
    assert told.shape == (len(values), min(count, values.shape[1]))
    for row, texts in zip(values, told, strict=True):
        places = [int(text.split(b":")[1]) for text in texts]
        assert len(set(places)) == len(places)
        rest = [row[at] for at in range(len(row)) if at not in places]
        chosen = [row[at] for at in places if not np.isnan(row[at])]
        assert all(a >= b for a, b in pairwise(chosen))
        assert all(np.isnan(value) or value <= chosen[-1] for value in rest if chosen)


def test_labels_are_told_where_there_is_one_for_each_value():
    values = np.array([[0.1, 0.9]], np.float32)
    assert classes_of("y", values, 1, ("no", "yes"), rows=True).tolist() == [[b"0.900000:1:yes"]]
    assert classes_of("y", values, 1, ("no",), rows=True).tolist() == [[b"0.900000:1"]]


def test_without_a_batch_all_of_an_output_is_one_row():
    values = np.array([[1, 5], [7, 2]], np.int32)
    assert classes_of("y", values, 3, (), rows=False).tolist() == [b"7:2", b"5:1", b"2:3"]
    assert classes_of("y", values.reshape(1, 2, 2), 2, (), rows=True).tolist() == [[b"7:2", b"5:1"]]
    assert classes_of("y", np.int64(4)[None][0:0], 2, (), rows=False).shape == (0,)
    assert classes_of("y", np.array(4), 2, (), rows=False).tolist() == [b"4:0"]


@pytest.mark.parametrize("values", [np.array([[b"a"]], object), np.array([[True]])])
def test_what_holds_no_numbers_is_refused(values):
    with pytest.raises(TensorError, match="only numbers"):
        classes_of("y", values, 1, (), rows=True)


@pytest.mark.parametrize("value", [True, "2", 1.0, -1, 2**31])
def test_a_count_that_is_none_is_named(value):
    with pytest.raises(ParameterError, match=r"outputs\[y\]\.parameters\[classification\]"):
        read_count(value, "outputs[y].")
