"""Rows of different length in one run: filled up to the longest, with a mask, and cut back afterwards.

Which of them go together is the queue's choice; see `engine.scheduler.queue`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from engine.errors import ManifestError, TensorError
from engine.manifest.padding import PaddingSection
from engine.scheduler.policy import BatchPolicy
from engine.tensor import BF16, DATATYPES, Tensor, TensorSpec

__all__ = ["Padding"]

_SHORT, _LONG = 3, 5
"""Lengths of the two rows of which it is tried whether they can share a run."""


class Padding:
    """What a manifest says of the lengths of a graph's rows.

    Args:
        section: of the manifest.
        inputs: of the graph.
        outputs: of the graph.

    Raises:
        ManifestError: the graph has no such input, output or axis.
    """

    def __init__(self, section: PaddingSection, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self._section = section
        self._axes = dict(section.axes)
        self._inputs = {spec.name: spec for spec in inputs}
        _check("axes", section.axes, self._inputs)
        _check("cut", section.cut, {spec.name: spec for spec in outputs})
        mask = self._inputs.get(section.mask)
        if mask is not None and (mask.datatype == "BYTES" or len(mask.shape) != 2):
            raise ManifestError(f"padding.mask: `{section.mask}` is no table of numbers, a row for each and 1 or 0")
        for name, value in section.values.items():
            _check_value(self._inputs[name], value)

    def policy(self, limits: BatchPolicy) -> BatchPolicy:
        """How batches are cut: where runs have the lengths of buckets, none is filled up to the next one."""
        return replace(limits, buckets=self._section.buckets, run_places=0) if self._section.buckets else limits

    def completed(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The inputs of a request, with the mask if it left that out."""
        mask = self._section.mask
        if not mask or mask in tensors:
            return tensors
        for name, axis in self._axes.items():
            given = tensors.get(name)
            if given is not None and given.ndim > axis:
                dtype = DATATYPES[self._inputs[mask].datatype]
                return {**tensors, mask: np.ones((len(given), given.shape[axis]), dtype)}
        return tensors

    def length(self, tensors: Mapping[str, Tensor]) -> int:
        """How long a request's rows are.

        Raises:
            TensorError: its inputs are not of one length, or longer than the longest bucket.
        """
        lengths: dict[str, int] = {name: tensors[name].shape[axis] for name, axis in self._axes.items()}
        name, length = next(iter(lengths.items()))
        for other, its in lengths.items():
            if its != length:
                raise TensorError(other, f"is {its} long along axis {self._axes[other]}, and {name!r} is {length}")
        buckets = self._section.buckets
        if buckets and length > buckets[-1]:
            raise TensorError(name, f"is {length} long along axis {self._axes[name]}; at most {buckets[-1]} are taken")
        return length

    def key(self, tensors: Mapping[str, Tensor]) -> Hashable:
        """What must be equal for requests to share a run: every length but the ones that are filled up."""
        return tuple(
            (name, tuple(size for axis, size in enumerate(tensor.shape) if axis not in (0, self._axes.get(name, 0))))
            for name, tensor in sorted(tensors.items())
        )

    def joined(self, requests: Sequence[Mapping[str, Tensor]], lengths: Sequence[int]) -> dict[str, Tensor]:
        """The inputs of all requests in one, filled up to the longest or to its bucket."""
        width, buckets = max(lengths), self._section.buckets
        if buckets:
            width = buckets[bisect_left(buckets, width)]
        return {name: self._joined(name, [request[name] for request in requests], width) for name in requests[0]}

    def cut(self, outputs: Mapping[str, Tensor], length: int) -> dict[str, Tensor]:
        """A request's outputs without what filling came to."""
        cut = dict(outputs)
        for name, axis in self._section.cut.items():
            if name in cut:
                cut[name] = cut[name][(slice(None),) * axis + (slice(length),)]
        return cut

    def samples(self, random: np.random.Generator) -> list[dict[str, Tensor]]:
        """A short row and a long one, of values of no meaning; masks say that all of it counts."""
        return [
            {name: self._sample(spec, length, random) for name, spec in self._inputs.items()}
            for length in (_SHORT, _LONG)
        ]

    def _joined(self, name: str, tensors: Sequence[Tensor], width: int) -> Tensor:
        axis = self._axes.get(name)
        if axis is None or all(tensor.shape[axis] == width for tensor in tensors):
            return tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
        first = tensors[0]
        shape = (sum(map(len, tensors)), *first.shape[1:axis], width, *first.shape[axis + 1 :])
        made: Tensor = np.full(shape, b"" if first.dtype == object else self._section.values.get(name, 0), first.dtype)
        at = 0
        for tensor in tensors:
            rows = slice(at, at + len(tensor))
            made[(rows, *(slice(None),) * (axis - 1), slice(tensor.shape[axis]))] = tensor
            at += len(tensor)
        return made

    def _sample(self, spec: TensorSpec, length: int, random: np.random.Generator) -> Tensor:
        axis = self._axes.get(spec.name)
        shape = tuple(
            1 if at == 0 else length if at == axis else 2 if size == -1 else size for at, size in enumerate(spec.shape)
        )
        if spec.datatype == "BYTES":
            words = np.empty(shape, object)
            words[...] = b"a few words"
            return words
        dtype = DATATYPES[spec.datatype]
        if spec.name == self._section.mask:
            return np.ones(shape, dtype)
        if dtype.kind == "f" or dtype == BF16:
            return random.random(shape).astype(dtype)
        return random.integers(0, 2, shape).astype(dtype)


def _check(key: str, axes: Mapping[str, int], specs: Mapping[str, TensorSpec]) -> None:
    for name, axis in axes.items():
        spec = specs.get(name)
        if spec is None:
            raise ManifestError(f"padding.{key}: the graph has no `{name}`; it has {', '.join(specs)}")
        if axis >= len(spec.shape) or spec.shape[axis] != -1 or spec.shape[0] != -1:
            raise ManifestError(
                f"padding.{key}: `{name}` has the shape {list(spec.shape)}: axes 0 and {axis} must be of any length, -1"
            )


def _check_value(spec: TensorSpec, value: float) -> None:
    dtype = DATATYPES[spec.datatype]
    with np.errstate(over="ignore", invalid="ignore"):
        if spec.datatype == "BYTES" or float(np.array(value).astype(dtype)) != value:
            raise ManifestError(f"padding.values: `{spec.name}` is of {spec.datatype}, which cannot hold {value:g}")
