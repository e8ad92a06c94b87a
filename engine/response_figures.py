"""The figures of responses, where a request has several: counted by their place, 0 for the first of each request.

Triton shows them as `response_stats`, of decoupled models alone. Whole requests are `engine.figures`' to count.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from engine.durations import Duration, Sum
from engine.errors import InferenceFailedError, InferenceTimeoutError
from mesh.errors import TiationError

__all__ = ["ResponseFigures", "ResponseStatistics", "ResponseTimes"]

_MOST_PLACES = 1024
"""So many places are told apart; what comes after counts as the power of two below it."""


@dataclass(frozen=True, slots=True)
class ResponseStatistics:
    """The responses at one place.

    Attributes:
        compute_infer: in the model, since the one before was handed over.
        compute_output: made of what the model gave.
        success: made with a text; both of the above.
        fail: the model failed instead; how long it had worked on it.
        empty_response: made without a text, to say why the answer has ended; how long the model worked on it.
        cancel: given up; how long it had been worked on.
    """

    compute_infer: Duration
    compute_output: Duration
    success: Duration
    fail: Duration
    empty_response: Duration
    cancel: Duration


@dataclass(slots=True)
class _Place:
    """The responses at one place, as they come."""

    compute_infer: Sum = field(default_factory=Sum)
    compute_output: Sum = field(default_factory=Sum)
    success: Sum = field(default_factory=Sum)
    fail: Sum = field(default_factory=Sum)
    empty_response: Sum = field(default_factory=Sum)
    cancel: Sum = field(default_factory=Sum)

    def now(self) -> ResponseStatistics:
        """As they stand."""
        return ResponseStatistics(
            self.compute_infer.now(),
            self.compute_output.now(),
            self.success.now(),
            self.fail.now(),
            self.empty_response.now(),
            self.cancel.now(),
        )


class ResponseTimes:
    """The responses to one request, as a block: an exception that ends it is counted at the one that was due."""

    __slots__ = ("_figures", "_place", "_since")

    def __init__(self, figures: ResponseFigures) -> None:
        self._figures = figures
        self._place = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _where: TracebackType | None) -> None:
        if error is not None and not (self._place == 0 and _is_refusal(error)):
            self._figures.missed(self._place, time.perf_counter() - self._since, error)

    def made(self, came: float, *, empty: bool) -> None:
        """The response that was due is made.

        Args:
            came: when the model had given what it is made of, seconds of `time.perf_counter`.
            empty: whether it holds no text.
        """
        now = time.perf_counter()
        self._figures.made(self._place, came - self._since, now - came, empty=empty)
        self._place += 1
        self._since = now

    def handed(self) -> None:
        """It was taken: only from now on does the next one take its time."""
        self._since = time.perf_counter()


class ResponseFigures:
    """The responses of one version of a model."""

    def __init__(self) -> None:
        self._changed = threading.Lock()
        self._places: dict[int, _Place] = {}

    def request(self) -> ResponseTimes:
        """The responses to one request, to the end of the block."""
        return ResponseTimes(self)

    def made(self, place: int, infer_s: float, output_s: float, *, empty: bool) -> None:
        """A response was made; Triton counts no output of one that is empty."""
        with self._changed:
            sums = self._at(place)
            sums.compute_infer.add(infer_s)
            if empty:
                sums.empty_response.add(infer_s)
                return
            sums.compute_output.add(output_s)
            sums.success.add(infer_s + output_s)

    def missed(self, place: int, took_s: float, error: BaseException) -> None:
        """A response that was due did not come; as in Triton, no computing is counted of one that was given up."""
        with self._changed:
            sums = self._at(place)
            if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
                sums.cancel.add(took_s)
                return
            sums.compute_infer.add(took_s)
            sums.fail.add(took_s)

    def statistics(self) -> Mapping[int, ResponseStatistics]:
        """The figures as they are now, by place, in order."""
        with self._changed:
            return {place: self._places[place].now() for place in sorted(self._places)}

    def _at(self, place: int) -> _Place:
        if place >= _MOST_PLACES:
            place = 1 << place.bit_length() - 1
        return self._places.get(place) or self._places.setdefault(place, _Place())


def _is_refusal(error: BaseException) -> bool:
    """Whether an error before the first response says that none was begun: it was not the model that failed."""
    return isinstance(error, TiationError) and not isinstance(error, (InferenceFailedError, InferenceTimeoutError))
