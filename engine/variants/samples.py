"""What a model and its variant are both asked: the caller's samples, or rows made up from what the model takes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from engine.errors import ElementError
from engine.servables.base import Tensors
from engine.tensor import BF16, DATATYPES, Tensor, TensorSpec

__all__ = ["ROWS", "questions"]

ROWS = 32
"""So many rows are made up."""
_WORDS = (
    "the a to of and in for is on that by with you it not are from your all have new was we can please my order has",
    "arrived late refund invoice password reset account delivery address change meeting tomorrow weather report music",
    "river mountain question answer help thank very good bad broken screen battery price city train school doctor",
)
_FREE = 16
"""The length of an axis that may have any."""


def questions(specs: Sequence[TensorSpec], samples: Sequence[str]) -> tuple[list[Tensors], int]:
    """What is asked, one question after the other, and how many rows that are.

    Args:
        specs: what the model takes.
        samples: texts, or JSON objects of one row each; none for something made up.

    Raises:
        ElementError: a sample does not fit.
    """
    random = np.random.default_rng(11)
    if not samples:
        made = [{spec.name: _made_up(spec, random) for spec in specs} for _ in range(ROWS)]
    elif len(specs) == 1 and specs[0].datatype == "BYTES" and specs[0].shape == (-1,):
        made = [{specs[0].name: np.array([text.encode()], object)} for text in samples]
    else:
        made = [_read(specs, text, at) for at, text in enumerate(samples)]
    return _joined(specs, made), len(made)


def _joined(specs: Sequence[TensorSpec], rows: list[dict[str, Tensor]]) -> list[Tensors]:
    """One question of all rows, where they fit together; else one each."""
    alike = all(len({row[spec.name].shape for row in rows}) == 1 for spec in specs)
    if not alike or any(not spec.shape or spec.shape[0] != -1 for spec in specs):
        return list(rows)
    return [{spec.name: np.concatenate([row[spec.name] for row in rows]) for spec in specs}]


def _read(specs: Sequence[TensorSpec], text: str, at: int) -> dict[str, Tensor]:
    """A row from JSON.

    Raises:
        ElementError: it is none.
    """
    try:
        given = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ElementError("samples", at, f'is no JSON object, like {{"x": [5.1, 3.5]}}: {error}') from None
    row = {}
    for spec in specs:
        if spec.name not in given:
            raise ElementError("samples", at, f"has no `{spec.name}`")
        row[spec.name] = _array(spec, given[spec.name], at)
    return row


def _array(spec: TensorSpec, value: Any, at: int) -> Tensor:  # noqa: ANN401 -- any JSON
    try:
        if spec.datatype == "BYTES":
            words = np.array(value, dtype=object)
            array = np.array([str(word).encode() for word in words.ravel()], object).reshape(words.shape)
        else:
            array = np.asarray(value, dtype=DATATYPES[spec.datatype])
    except (TypeError, ValueError, OverflowError):
        raise ElementError("samples", at, f"`{spec.name}` is no {spec.datatype}") from None
    return array[None] if spec.shape and spec.shape[0] == -1 and array.ndim == len(spec.shape) - 1 else array


def _made_up(spec: TensorSpec, random: np.random.Generator) -> Tensor:
    shape = tuple(1 if axis == 0 else _FREE if length == -1 else length for axis, length in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        made = np.empty(shape, object)
        for at in np.ndindex(shape):
            words = random.choice(" ".join(_WORDS).split(), int(random.integers(3, 40)))
            made[at] = _image(random) if spec.name == "image" else " ".join(words).encode()
        return made
    dtype = DATATYPES[spec.datatype]
    if dtype.kind == "f" or dtype == BF16:
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind == "b" or "mask" in spec.name:
        return np.ones(shape, dtype)
    return np.zeros(shape, dtype) if "type" in spec.name else random.integers(1, 100, shape).astype(dtype)


def _image(random: np.random.Generator) -> bytes:
    """A PNG of noise."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8), "RGB").save(file, "PNG")
    return file.getvalue()
