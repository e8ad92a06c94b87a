"""An ONNX graph behind a batcher: whether requests may share a run is tried once, at load."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from engine.errors import InferenceFailedError, InferenceTimeoutError, ModelFileError, TensorError
from engine.runtime.sessions import Session, SessionSettings
from engine.scheduler.instances import Instances
from engine.scheduler.observer import BatchObserver, Computed
from engine.scheduler.pieces import in_turn
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import BatchLimits, Tensors
from engine.tensor import BF16, DATATYPES, Tensor, TensorSpec

__all__ = ["MAX_ELEMENTS", "Graph", "parted", "sample"]

MAX_ELEMENTS = 1 << 26
"""The most values that the fixed lengths of one input may come to; zeros are filled in up to there."""
_TRIAL_ELEMENTS = 1 << 22
"""Inputs whose smallest sample has more values than this are not tried, and their rows share no run."""
_TRIAL_S = 10.0
"""The longest that what is tried at load may take: nobody else's models change meanwhile."""


class Graph:
    """A graph in memory that answers many at once.

    Args:
        path: the ONNX file.
        name: of the model.
        batching: `on`, `off`, or `auto` to try at load.
        settings: how its session is opened.
        limits: how much it takes on.
        observer: hears how batches went.

    Raises:
        EngineError: the file is no graph that can be run.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        batching: Literal["auto", "on", "off"],
        settings: SessionSettings,
        limits: BatchLimits,
        observer: BatchObserver,
    ) -> None:
        self._file = path.name
        self._instances: Instances[Tensors, dict[str, Tensor]] = Instances(path, settings, _run, limits.instances)
        self._session = self._instances.first
        try:
            _check_lengths(path.name, self._session.inputs)
            self.batches = batching == "on" or (batching == "auto" and _rows_are_apart(self._session))
        except BaseException:  # whatever ends it, the sessions hold memory
            self._instances.close()
            raise
        self._max_rows = limits.max_rows
        self._policy = limits
        self._batcher = self._instances.batcher(name, limits, observer)

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
            return self._session.run(tensors, limit_s=_TRIAL_S)
        except InferenceTimeoutError:
            raise ModelFileError(
                f"{self._file}: computes longer than {_TRIAL_S:g} s for a first input", file=self._file
            ) from None

    async def run(self, tensors: Tensors, terms: Terms = PLAIN) -> dict[str, Tensor]:
        """Every output for inputs that were checked."""
        if not self.batches:
            return await self._batcher.submit(tensors, rows=_rows(tensors), key=object(), terms=terms)
        rows = {len(tensor) for tensor in tensors.values()}
        if len(rows) != 1:
            raise TensorError(self.inputs[0].name, "all inputs must have the same length along axis 0")
        key = tuple((name, tensor.shape[1:]) for name, tensor in sorted(tensors.items()))
        return await self._batcher.submit(tensors, rows=rows.pop(), key=key, terms=terms)

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


def _run(session: Session, requests: Sequence[Tensors]) -> list[dict[str, Tensor]]:
    """One batch."""
    if len(requests) == 1:
        return [session.run(requests[0])]
    began = time.perf_counter()
    joined = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
    ready = time.perf_counter()
    outputs = session.run(joined)
    done = time.perf_counter()
    parts = parted(outputs, [_rows(request) for request in requests])
    return Computed(parts, input_s=ready - began, output_s=time.perf_counter() - done)


def _rows(tensors: Tensors) -> int:
    """How many rows a request has: the length of its first input along axis 0."""
    first = next(iter(tensors.values()), None)
    return len(first) if first is not None and first.ndim else 1


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


def _rows_are_apart(session: Session) -> bool:
    """Whether two rows in one run give what they give alone: tried once, with values of no meaning."""
    if not session.inputs or any(not spec.shape or spec.shape[0] != -1 for spec in session.inputs):
        return False
    if any(not spec.shape or spec.shape[0] != -1 for spec in session.outputs):
        return False
    if sum(math.prod(_sample_shape(spec)) for spec in session.inputs) > _TRIAL_ELEMENTS:
        return False
    random = np.random.default_rng(7)
    ends = time.monotonic() + _TRIAL_S
    try:
        one, two = ({spec.name: sample(spec, random) for spec in session.inputs} for _ in range(2))
        joined = {name: np.concatenate([one[name], two[name]]) for name in one}
        *alone, together = (session.run(feeds, limit_s=ends - time.monotonic()) for feeds in (one, two, joined))
    except Exception:  # noqa: BLE001 -- a graph that cannot take our sample is not batched
        return False
    return all(_agree(value, [answer[name] for answer in alone]) for name, value in together.items())


def _agree(together: Tensor, alone: Sequence[Tensor]) -> bool:
    if together.shape[0] != 2 or any(len(value) != 1 for value in alone):
        return False
    apart = np.concatenate(alone)
    if together.dtype == object:
        return bool((together == apart).all())
    return bool(np.allclose(together, apart, rtol=1e-3, atol=1e-4, equal_nan=True))


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


def _sample_shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if axis == 0 else 2 if length == -1 else length for axis, length in enumerate(spec.shape))


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
