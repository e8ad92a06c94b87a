"""An ONNX graph behind a batcher: whether requests may share a run is tried once, at load."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from engine.errors import InferenceFailedError, InferenceTimeoutError, ManifestError, ModelFileError, TensorError
from engine.manifest import GraphManifest
from engine.manifest.padding import PaddingSection
from engine.runtime.sessions import Session
from engine.scheduler.instances import Instances
from engine.scheduler.observer import Computed
from engine.scheduler.pieces import in_turn
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Tensors
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.padding import Padding
from engine.servables.trial import TRIAL_S, padding_is_apart, rows_are_apart
from engine.tensor import Tensor, TensorSpec

__all__ = ["MAX_ELEMENTS", "Graph", "parted"]

MAX_ELEMENTS = 1 << 26
"""The most values that the fixed lengths of one input may come to; zeros are filled in up to there."""


class Graph:
    """A graph in memory that answers many at once.

    Args:
        path: the ONNX file.
        context: how it is to serve.
        batching: `on`, `off`, or `auto` to try at load.
        padding: how rows of different length share a run; without it they do not.

    Attributes:
        batches: whether requests share runs.
        unpadded: why rows of different length do not share one, though they shall.

    Raises:
        ManifestError: padding that the graph has no axes for, or that changes its answers; requests that shall share
            runs of a graph that has no free first axis.
        EngineError: the file is no graph that can be run.
    """

    def __init__(
        self,
        path: Path,
        context: ModelContext[GraphManifest],
        batching: Literal["auto", "on", "off"] = "auto",
        padding: PaddingSection | None = None,
    ) -> None:
        self._file = path.name
        self._padding: Padding | None = None
        limits = context.limits
        self._instances: Instances[Tensors, dict[str, Tensor]] = Instances(
            path, context.settings, self._run, limits.instances
        )
        self._session = self._instances.first
        with closed_on_failure(self._instances):
            _check_lengths(path.name, self._session.inputs)
            if batching == "on":
                _check_rows(self._session.inputs)
            self.batches = batching == "on" or (batching == "auto" and rows_are_apart(self._session))
            self.unpadded = self._prepare(padding) if padding is not None else ""
        self._max_rows = limits.max_rows
        self._policy = limits if self._padding is None else self._padding.policy(limits)
        self._batcher = self._instances.batcher(context.manifest.name, self._policy, context.observer)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        return self._session.outputs

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """The lists of classes that are written in the file."""
        return self._session.classes

    @property
    def policy(self) -> BatchPolicy | None:
        """How requests are put together; None where each is computed alone."""
        return self._policy if self.batches else None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._batcher.waiting

    def try_once(self, tensors: Tensors) -> dict[str, Tensor]:
        """Compute now, in this thread; for whoever loads it.

        Raises:
            ModelFileError: it takes too long.
        """
        try:
            return self._session.run(tensors, limit_s=TRIAL_S)
        except InferenceTimeoutError:
            raise ModelFileError(
                f"{self._file}: computes longer than {TRIAL_S:g} s for a first input", file=self._file
            ) from None

    def completed(self, tensors: Tensors) -> Tensors:
        """The inputs of a request, with the mask that it may leave out."""
        return tensors if self._padding is None else self._padding.completed(tensors)

    async def run(self, tensors: Tensors, terms: Terms = PLAIN) -> dict[str, Tensor]:
        """Every output for inputs that were checked."""
        size = _bytes(tensors)
        if not self.batches:
            return await self._batcher.submit(tensors, rows=_rows(tensors), key=object(), terms=terms, size=size)
        rows = {len(tensor) for tensor in tensors.values()}
        if len(rows) != 1:
            raise TensorError(self.inputs[0].name, "all inputs must have the same length along axis 0")
        length = 0
        key: Hashable = tuple((name, tensor.shape[1:]) for name, tensor in sorted(tensors.items()))
        if self._padding is not None:
            length, key = self._padding.length(tensors), self._padding.key(tensors)
        return await self._batcher.submit(tensors, rows=rows.pop(), key=key, terms=terms, length=length, size=size)

    async def run_rows(self, rows: Tensor, terms: Terms = PLAIN) -> dict[str, Tensor]:
        """Every output for any number of rows of the only input; as `run_table`."""
        return await self.run_table({self.inputs[0].name: rows}, terms)

    async def run_table(self, table: Tensors, terms: Terms = PLAIN) -> dict[str, Tensor]:
        """Every output for any number of rows, at least one, of all inputs.

        A graph whose first axis has a fixed length gets as many runs as it takes, the last one filled up with zeros;
        one whose rows are not apart gets them one by one.
        """
        spec = self.inputs[0]
        fixed = spec.shape[0] if spec.shape and spec.shape[0] > 0 else 0
        count = len(table[spec.name])
        if fixed * max(math.prod(rows.shape[1:]) for rows in table.values()) > MAX_ELEMENTS:
            raise TensorError(spec.name, f"would be filled up to {fixed} rows; at most {MAX_ELEMENTS} values are taken")
        size = fixed or (self._max_rows if self.batches else 1)
        if count <= size and (not fixed or count == fixed):
            return await self.run(table, terms)

        def work(start: int) -> Awaitable[dict[str, Tensor]]:
            piece = {name: _filled(rows[start : start + size], fixed) for name, rows in table.items()}
            return self.run(piece, terms)

        starts = range(0, count, size)
        with self._batcher.begun():
            answers = await in_turn(starts, work)
        return {
            name: np.concatenate([answer[name][: count - start] for answer, start in zip(answers, starts, strict=True)])
            for name in answers[0]
        }

    def close(self) -> None:
        """Give its memory back."""
        self._batcher.close()
        self._instances.close()

    def _prepare(self, section: PaddingSection) -> str:
        """Fill rows up from now on; or say why not."""
        padding = Padding(section, self.inputs, self.outputs)
        if not self.batches:
            return "requests do not share runs"
        untried = padding_is_apart(self._session, padding)
        if not untried:
            self._padding = padding
        return untried

    def _run(self, session: Session, requests: Sequence[Tensors]) -> list[dict[str, Tensor]]:
        """One batch."""
        padding = self._padding
        if len(requests) == 1 and padding is None:
            return [session.run(requests[0])]
        began = time.perf_counter()
        if padding is None:
            joined = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
        else:
            lengths = [padding.length(request) for request in requests]
            joined = padding.joined(requests, lengths)
        ready = time.perf_counter()
        outputs = session.run(joined)
        done = time.perf_counter()
        parts = parted(outputs, [_rows(request) for request in requests])
        if padding is not None:
            parts = [padding.cut(part, length) for part, length in zip(parts, lengths, strict=True)]
        return Computed(parts, input_s=ready - began, output_s=time.perf_counter() - done)


def _rows(tensors: Tensors) -> int:
    """How many rows a request has: the length of its first input along axis 0."""
    first = next(iter(tensors.values()), None)
    return len(first) if first is not None and first.ndim else 1


def _bytes(tensors: Tensors) -> int:
    """How many bytes a request keeps in memory, texts by their own length."""
    return sum(sum(map(len, tensor.flat)) if tensor.dtype == object else tensor.nbytes for tensor in tensors.values())


def _filled(rows: Tensor, fixed: int) -> Tensor:
    if len(rows) >= fixed:
        return rows
    empty: Tensor = np.full((fixed - len(rows), *rows.shape[1:]), b"" if rows.dtype == object else 0, rows.dtype)
    return np.concatenate([rows, empty])


def _check_lengths(file: str, inputs: Sequence[TensorSpec]) -> None:
    """Refuse a graph of which a single input would fill the memory."""
    for spec in inputs:
        values = math.prod(length for length in spec.shape if length > 0)
        if values > MAX_ELEMENTS:
            raise ModelFileError(
                f"{file}: the input {spec.name!r} has the shape {list(spec.shape)}, which is {values} values at least; "
                f"at most {MAX_ELEMENTS} are taken: export it with other lengths, or with free ones",
                file=file,
            )


def _check_rows(inputs: Sequence[TensorSpec]) -> None:
    """Refuse to have requests share runs of a graph that takes no more rows than its own number.

    Raises:
        ManifestError: naming the input, and the line to write.
    """
    for spec in inputs:
        if not spec.shape or spec.shape[0] != -1:
            raise ManifestError(
                f"batching: requests share a run along a free first axis, and the input `{spec.name}` has the shape "
                f"{list(spec.shape)}; write the line `batching: off`, or export the graph with a free first axis"
            )


def parted(joined: Mapping[str, Tensor], rows: Sequence[int]) -> list[dict[str, Tensor]]:
    """Outputs of a batch, parted again by request.

    Raises:
        InferenceFailedError: an output has another number of rows than went in.
    """
    ends = np.cumsum(rows)
    for name, value in joined.items():
        if value.ndim == 0 or len(value) != ends[-1]:
            raise InferenceFailedError(
                f"the output {name!r} of {ends[-1]} rows has the shape {list(value.shape)}: they cannot share a run; "
                "write the line `batching: off`"
            )
    return [
        {name: value[end - count : end] for name, value in joined.items()}
        for end, count in zip(ends, rows, strict=True)
    ]
