"""Values of no meaning for a graph's inputs, to see what becomes of them.

What is tried with them is `engine.servables.trial`'s and `engine.runtime.apart_main`'s.
"""

from __future__ import annotations

import math

import numpy as np

from engine.tensor import BF16, DATATYPES, Tensor, TensorSpec

__all__ = ["sample", "sample_elements"]


def sample(spec: TensorSpec, random: np.random.Generator) -> Tensor:
    """One row of values of no meaning.

    Lengths that are free are 2: with 1, everything goes together with everything, and nothing would be found out.
    """
    shape = _sample_shape(spec)
    if spec.datatype == "BYTES":
        words = np.empty(shape, object)
        words[...] = b"a few words" if random.random() < 0.5 else b"other ones"
        return words
    dtype = DATATYPES[spec.datatype]
    return random.random(shape).astype(dtype) if dtype.kind == "f" or dtype == BF16 else np.ones(shape, dtype)


def sample_elements(spec: TensorSpec) -> int:
    """How many values `sample` would make."""
    return math.prod(_sample_shape(spec))


def _sample_shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if axis == 0 else 2 if length == -1 else length for axis, length in enumerate(spec.shape))
