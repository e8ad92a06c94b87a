"""A graph that takes token ids, behind a batcher: texts of like length share a run, padded to the longest of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.errors import InferenceTimeoutError, ModelFileError
from engine.manifest import GraphManifest
from engine.runtime.sessions import Session
from engine.scheduler.instances import Instances
from engine.scheduler.observer import Computed
from engine.scheduler.pieces import in_turn
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.tokens import TokenRows, Tokens, padded
from engine.tensor import Tensor, TensorSpec

__all__ = ["ReadOutput", "TokenGraph"]

_TRIAL_S = 10.0
"""The longest that what is tried at load may take: nobody else's models change meanwhile."""

ReadOutput: TypeAlias = Callable[[Tensor, NDArray[np.int64]], NDArray[np.float32]]
"""Makes the answer, float32 (n, ...) or (n, s, ...), of the graph's output and the mask, int64 (n, s)."""


class TokenGraph:
    """A graph that takes `input_ids`, `attention_mask` and perhaps `token_type_ids`.

    Args:
        path: the ONNX file.
        context: how it is to serve.
        read: what the answer is; called on the thread that runs the graph.
        output: which output is read; without it the first one.

    Attributes:
        policy: how requests are put together.

    Raises:
        ModelFileError: the graph takes something else, or has no such output.
        EngineError: the file is no graph that can be run.
    """

    def __init__(self, path: Path, context: ModelContext[GraphManifest], read: ReadOutput, output: str = "") -> None:
        self._file = path.name
        self._read = read
        self._instances: Instances[TokenRows, NDArray[np.float32]] = Instances(
            path, context.settings, self._run, context.limits.instances
        )
        self._session = self._instances.first
        with closed_on_failure(self._instances):
            self.output = self._checked(output)
        self._typed = "token_type_ids" in {spec.name for spec in self._session.inputs}
        self.policy = context.limits
        self._max_rows = context.limits.max_rows
        self._batcher = self._instances.batcher(context.manifest.name, context.limits, context.observer)

    @property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """The lists of classes that are written in the file."""
        return self._session.classes

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._batcher.waiting

    def try_once(self, sequences: Sequence[Tokens]) -> Tensor:
        """The graph's own output for some tokens, computed now, in this thread; for whoever loads it.

        Raises:
            ModelFileError: it takes too long.
        """
        rows = padded(sequences)
        try:
            return self._session.run(self._feeds(rows), [self.output.name], limit_s=_TRIAL_S)[self.output.name]
        except InferenceTimeoutError:
            raise ModelFileError(
                f"{self._file}: computes longer than {_TRIAL_S:g} s for a first input", file=self._file
            ) from None

    async def run_rows(self, rows: TokenRows, terms: Terms = PLAIN) -> NDArray[np.float32]:
        """The answers for rows of tokens, at least one; in pieces of at most a batch."""
        size = self._max_rows
        if len(rows.ids) <= size:
            return await self._submit(rows, terms)
        pieces = [_cut(rows, at, at + size) for at in range(0, len(rows.ids), size)]
        with self._batcher.begun():
            answers = await in_turn(pieces, lambda piece: self._submit(piece, terms))
        return np.concatenate(answers)

    async def run_each(self, sequences: Sequence[Tokens], terms: Terms = PLAIN) -> list[NDArray[np.float32]]:
        """The answer for each sequence; those of like length share a run, however they came.

        Returns:
            float32, each of the shape that `read` makes of a row; where that has an axis of tokens, as many as its
            sequence has, and those that were added to fill a row up are left out of it by the caller.
        """
        order = sorted(range(len(sequences)), key=lambda at: len(sequences[at].ids))
        groups = [order[at : at + self._max_rows] for at in range(0, len(order), self._max_rows)]
        answers: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(sequences)

        async def work(group: Sequence[int]) -> None:
            found = await self.run_rows(padded([sequences[at] for at in group]), terms)
            for at, answer in zip(group, found, strict=True):
                answers[at] = answer

        if groups:
            with self._batcher.begun():
                await in_turn(groups, work)
        return answers

    def close(self) -> None:
        """Give its memory back."""
        self._batcher.close()
        self._instances.close()

    def _submit(self, rows: TokenRows, terms: Terms) -> Awaitable[NDArray[np.float32]]:
        count, length = rows.ids.shape
        return self._batcher.submit(rows, rows=count, terms=terms, length=length, size=2 * rows.ids.nbytes)

    def _checked(self, output: str) -> TensorSpec:
        """The output that is read."""
        names = {spec.name for spec in self._session.inputs}
        if not {"input_ids", "attention_mask"} <= names or names - {"input_ids", "attention_mask", "token_type_ids"}:
            raise ModelFileError(
                f"{self._file}: a model of texts takes input_ids and attention_mask, and this graph takes "
                f"{', '.join(sorted(names))}",
                file=self._file,
            )
        outputs = {spec.name: spec for spec in self._session.outputs}
        if output and output not in outputs:
            raise ModelFileError(
                f"{self._file}: the graph has no output `{output}`; it has {', '.join(outputs)}", file=self._file
            )
        return outputs[output] if output else self._session.outputs[0]

    def _feeds(self, rows: TokenRows) -> dict[str, Tensor]:
        feeds: dict[str, Tensor] = {"input_ids": rows.ids, "attention_mask": rows.mask}
        if self._typed:
            feeds["token_type_ids"] = np.zeros_like(rows.ids) if rows.types is None else rows.types
        return feeds

    def _run(self, session: Session, requests: Sequence[TokenRows]) -> list[NDArray[np.float32]]:
        """One batch, padded to its longest request."""
        began = time.perf_counter()
        joined = requests[0] if len(requests) == 1 else _joined(requests)
        feeds, name = self._feeds(joined), self.output.name
        ready = time.perf_counter()
        outputs = session.run(feeds, [name])
        done = time.perf_counter()
        answer = self._read(outputs[name], joined.mask)
        if len(requests) == 1:
            return Computed([answer], input_s=ready - began, output_s=time.perf_counter() - done)
        ends = np.cumsum([len(request.ids) for request in requests])
        parts = [answer[end - len(request.ids) : end] for request, end in zip(requests, ends, strict=True)]
        return Computed(parts, input_s=ready - began, output_s=time.perf_counter() - done)


def _joined(requests: Sequence[TokenRows]) -> TokenRows:
    """The rows of all requests, filled up to the longest."""
    width = max(request.ids.shape[1] for request in requests)
    shape = (sum(len(request.ids) for request in requests), width)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    types = np.zeros(shape, np.int64) if any(request.types is not None for request in requests) else None
    at = 0
    for request in requests:
        place = (slice(at, at + len(request.ids)), slice(request.ids.shape[1]))
        ids[place], mask[place] = request.ids, request.mask
        if types is not None and request.types is not None:
            types[place] = request.types
        at += len(request.ids)
    return TokenRows(ids, mask, types)


def _cut(rows: TokenRows, start: int, end: int) -> TokenRows:
    return TokenRows(rows.ids[start:end], rows.mask[start:end], None if rows.types is None else rows.types[start:end])
