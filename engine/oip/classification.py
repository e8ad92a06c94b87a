"""Outputs as classes: the largest values of each row with their places and labels, as Triton's extension has it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engine.errors import ParameterError, TensorError
from engine.parameters import Parameter
from engine.tensor import Tensor, datatype_of

__all__ = ["CLASSIFICATION", "classes_of", "read_count"]

CLASSIFICATION = "classification"
"""The parameter of an output that asks for it: how many classes."""
_MOST = 2**31 - 1


def read_count(value: Parameter, tensor: str) -> int:
    """How many classes are wanted; 0 where the values themselves are.

    Args:
        value: of the parameter.
        tensor: what an error calls its output: `outputs[y].`

    Raises:
        ParameterError: it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ParameterError(CLASSIFICATION, f"must be a whole number from 0 to {_MOST}", tensor)
    return value


def classes_of(name: str, values: Tensor, count: int, labels: Sequence[str], *, rows: bool) -> Tensor:
    """The classes of an output: BYTES, each `value:place`, or `value:place:label` where labels are known.

    Args:
        name: of the output.
        values: its numbers; what a row has beyond its first axis counts as one list.
        count: the most classes of a row, the largest value first.
        labels: by place; left out where there are not as many as a row has values.
        rows: whether the first axis is the batch's; else all of it is one row.

    Returns:
        BYTES, shape (rows, classes), or (classes,) where it is one row.

    Raises:
        TensorError: it holds no numbers.
    """
    if values.dtype.kind not in "iuf" and datatype_of(values) != "BF16":
        raise TensorError(name, f"is {datatype_of(values)}; only numbers are told as classes")
    table = values.reshape(len(values), math.prod(values.shape[1:])) if rows else values.reshape(1, values.size)
    if table.dtype.kind not in "iu":
        table = table.astype(np.float64)
    ranked = np.where(np.isnan(table), -np.inf, table) if table.dtype.kind == "f" else table
    width = table.shape[1]
    order = width - 1 - np.argsort(ranked[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]
    shown = np.empty(order.shape, object)
    named = labels if len(labels) == width else None
    for row, places in enumerate(order.tolist()):
        for at, place in enumerate(places):
            value = table[row, place]
            text = f"{value:f}" if table.dtype.kind == "f" else str(value)
            shown[row, at] = (f"{text}:{place}" + (f":{named[place]}" if named else "")).encode()
    return shown if rows else shown[0]
