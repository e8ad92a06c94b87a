"""Measures a model that writes: tokens a second, and how long its readers wait for the first and for each further one.

What it is asked are texts of words at random, so that no two share what was read before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tiation.engine.v1 import prediction_pb2 as pb

from cli.profiling.clients import CALL_S, Clients
from cli.profiling.samples import text_of
from mesh.errors import Code, TiationError

__all__ = ["AnswerError", "Written", "measure_writing"]


class AnswerError(TiationError):
    """An answer could not be finished."""

    code = Code.UNAVAILABLE
    reason = "ANSWER_CUT_OFF"


@dataclass(frozen=True, slots=True)
class Written:
    """One line of the table.

    Attributes:
        concurrency: readers at once.
        tokens_per_s: tokens that came in a second, to all together.
        first_p50_ms: half of the answers began no later, as the reader sees it.
        first_p99_ms: 99 of 100.
        token_ms: between two tokens of an answer, the middle of all answers; 0 where no answer had two.
        answers: that began while it was measured; before that, where they were too long for others to begin.
        refused: requests that were answered RESOURCE_EXHAUSTED.
    """

    concurrency: int
    tokens_per_s: float
    first_p50_ms: float
    first_p99_ms: float
    token_ms: float
    answers: int
    refused: int

    @property
    def per_s(self) -> float:
        """What is best where it is most."""
        return self.tokens_per_s

    @property
    def slowest_ms(self) -> float:
        """What may be limited."""
        return self.first_p99_ms


@dataclass(slots=True)
class _Seen:
    """What all readers have seen: `early` are the first tokens that came before it was measured."""

    early: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0


def measure_writing(
    stub: Any,  # noqa: ANN401 -- see `connect`
    request: pb.GenerateRequest,
    *,
    concurrency: int,
    words: int,
    seconds: float,
) -> Written | None:
    """One line of the table; None where no token came, ten seconds longer.

    Args:
        stub: of the prediction service.
        request: the model, and how it shall write; the prompt is made up.
        concurrency: how many readers there are.
        words: of a prompt.
        seconds: how long is measured, after a moment that is not.

    Raises:
        AnswerError: an answer could not be finished.
        grpc.RpcError: a request was refused for another reason than that there is no place.
    """
    seen = _Seen()

    def ask(_: int) -> None:
        prompt = text_of(words, random.Random())  # noqa: S311 -- no secret
        _read(stub, request, prompt, clients, seen)

    clients = Clients(ask, lambda: seen.tokens)
    took, _, _ = clients.measured(concurrency, seconds, lambda: None)
    first = seen.first or seen.early
    if not seen.tokens:
        return None
    return Written(
        concurrency,
        seen.tokens / took,
        _share(first, 0.5),
        _share(first, 0.99),
        _share(seen.between, 0.5) if seen.between else 0.0,
        len(first),
        clients.refused,
    )


def _read(stub: Any, request: pb.GenerateRequest, prompt: str, clients: Clients, seen: _Seen) -> None:  # noqa: ANN401
    """One answer, as far as it is measured; it is given up when all stop."""
    asked = pb.GenerateRequest()
    asked.CopyFrom(request)
    asked.prompts.add(text=prompt)
    began, first, last, tokens = time.perf_counter(), 0.0, 0.0, 0
    parts = stub.Generate(asked, timeout=CALL_S)
    for part in parts:
        if part.HasField("error"):
            raise AnswerError(part.error.message)
        if part.completion_tokens > tokens:
            measuring, last = clients.measuring.is_set(), time.perf_counter()
            seen.tokens += (part.completion_tokens - tokens) * measuring
            if not tokens:
                first = last
                (seen.first if measuring else seen.early).append(1000 * (first - began))
            tokens = part.completion_tokens
        if clients.stop.is_set():
            parts.cancel()
            break
    if tokens > 1 and (clients.measuring.is_set() or clients.stop.is_set()):
        seen.between.append(1000 * (last - first) / (tokens - 1))


def _share(values: Sequence[float], share: float) -> float:
    """So that the share of the values is no larger."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
