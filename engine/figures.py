"""The figures of one version of a model, counted once: `engine.metrics` and ModelStatistics both show them.

Requests are counted in their tasks, runs on the threads that run them. A request's times are those of the runs that it
was in: all requests of a batch have the whole batch's time, as in Triton. One that is cut into pieces waits while none
of them is computed: what a piece waits for another of its own is no time in the queue.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeAlias
from weakref import WeakSet

from engine.durations import Duration, Sum
from engine.errors import InferenceFailedError, InferenceTimeoutError
from engine.response_figures import ResponseFigures
from engine.scheduler.observer import Dispatch, Queue, Ran
from mesh.errors import Code, TiationError

__all__ = ["BatchStatistics", "Failure", "ModelFigures", "RequestTimes", "Statistics"]

Failure: TypeAlias = Literal["REJECTED", "CANCELED", "BACKEND", "OTHER"]
"""Why requests fail, in Triton's words: not taken in or out of time in the queue, given up, the model's, all others."""

_REJECTED = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_MOST_SIZES = 1024
"""So many sizes of batches are told apart; what comes after counts as the power of two below it."""

_Span: TypeAlias = tuple[float, float, float]
"""When a request, or a piece of one, came into the queue, was begun and was computed; seconds of one clock."""

_times: ContextVar[RequestTimes | None] = ContextVar("request_times", default=None)


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """The runs with so many rows."""

    rows: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures as they are now.

    Attributes:
        last_inference_ms: when the last request was answered, milliseconds since the epoch; 0 for never.
        inferences: rows computed.
        executions: runs.
        success: requests answered.
        fail: requests that failed.
        queue: of the requests answered, how long they waited.
        compute_input: of those that were computed, putting inputs together; the next two likewise.
        compute_infer: in the model.
        compute_output: taking outputs apart.
        cache_hit: answers that were found in the cache.
        cache_miss: looked for in vain, computed and kept.
        batches: runs by their rows, in order.
        failures: requests that failed by reason.
        dispatches: runs by why they went when they did.
    """

    last_inference_ms: int
    inferences: int
    executions: int
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration
    batches: tuple[BatchStatistics, ...]
    failures: Mapping[Failure, int]
    dispatches: Mapping[Dispatch, int]


@dataclass(slots=True)
class _Runs:
    """The runs of one size."""

    count: int = 0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0

    def now(self, rows: int) -> BatchStatistics:
        """As they stand."""
        parts = (Sum(self.count, seconds).now() for seconds in (self.input_s, self.infer_s, self.output_s))
        return BatchStatistics(rows, *parts)


class RequestTimes:
    """A request under way, as a block: what ends it says whether it failed.

    Attributes:
        input_s: how long inputs were put together for it.
        infer_s: how long it was computed.
        output_s: how long outputs were taken apart for it.
        runs: how many runs it was in.
        batch_rows: the rows of the largest of them.
    """

    __slots__ = ("_began", "_figures", "_outer", "_spans", "batch_rows", "infer_s", "input_s", "output_s", "runs")

    def __init__(self, figures: ModelFigures) -> None:
        self._figures = figures
        self._spans: list[_Span] = []
        self.input_s = self.infer_s = self.output_s = 0.0
        self.runs = self.batch_rows = 0

    def __enter__(self) -> Self:
        self._outer = _times.get()
        _times.set(self)
        self._began = time.perf_counter()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _where: TracebackType | None) -> None:
        _times.set(self._outer)
        self._figures.ended(self, time.perf_counter() - self._began, None if error is None else _why(error))

    @property
    def queue_s(self) -> float:
        """How long it waited: of one in pieces, the time in which pieces waited and none was computed."""
        if len(self._spans) == 1:
            since, began, _ = self._spans[0]
            return began - since
        return _waited_s(self._spans)

    def ran(self, ran: Ran, waited_s: float) -> None:
        """It was in a run."""
        self.runs += 1
        self._spans.append((ran.began - waited_s, ran.began, ran.ended))
        self.input_s += ran.input_s
        self.infer_s += ran.infer_s
        self.output_s += ran.output_s
        self.batch_rows = max(self.batch_rows, ran.rows)

    def wrote(self, texts: int) -> None:
        """So many texts were written for it. All of its time is the model's: it waits between any two of its steps."""
        self.runs += texts
        self.infer_s += time.perf_counter() - self._began - self.input_s - self.output_s
        self._figures.wrote(texts)


@dataclass(slots=True)
class _Answered:
    """The requests that were answered, and those of them that were in a run; plain sums, grown with every request."""

    count: int = 0
    took_s: float = 0.0
    queue_s: float = 0.0
    computed: int = 0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0

    def add(self, times: RequestTimes, took_s: float) -> None:
        """One more. What was in no run, for its answer was kept, counts for nothing below its queue, as in Triton."""
        self.count += 1
        self.took_s += took_s
        self.queue_s += times.queue_s
        if times.runs:
            self.computed += 1
            self.input_s += times.input_s
            self.infer_s += times.infer_s
            self.output_s += times.output_s


@dataclass(slots=True)
class _Totals:
    """Everything that is counted."""

    last_inference: float = 0.0
    inferences: int = 0
    executions: int = 0
    answered: _Answered = field(default_factory=_Answered)
    fail: Sum = field(default_factory=Sum)
    cache_hit: Sum = field(default_factory=Sum)
    cache_miss: Sum = field(default_factory=Sum)
    batches: dict[int, _Runs] = field(default_factory=dict)
    failures: dict[Failure, int] = field(default_factory=dict)
    dispatches: dict[Dispatch, int] = field(default_factory=dict)


class ModelFigures:
    """The figures of one version of a model.

    Args:
        model: its name.
        version: its number.
        traced: is told of each request that was in a run; None where nobody asks.

    Attributes:
        shown: whether the version is, or ever was, in memory.
        loaded: whether it is.
        responses: the figures of its responses, where a request has several.
    """

    def __init__(
        self, model: str, version: str, traced: Callable[[ModelFigures, Ran, float], None] | None = None
    ) -> None:
        self.model, self.version = model, version
        self.shown = self.loaded = False
        self.responses = ResponseFigures()
        self._traced = traced
        self._waiting: Callable[[], float] = _none
        self._queues: WeakSet[Queue] = WeakSet()
        self._changed = threading.Lock()
        self._totals = _Totals()

    def watch(self, waiting: Callable[[], float]) -> None:
        """Show how many requests wait, from now on."""
        self._waiting = waiting
        self.shown = self.loaded = True

    def forget(self) -> None:
        """Show that none wait, and hold nothing of the model any more; what was counted stays."""
        self._waiting = _none
        self.loaded = False

    @property
    def waiting(self) -> float:
        """How many requests wait."""
        return self._waiting()

    @property
    def oldest_wait_s(self) -> float:
        """For how long the oldest of those that wait has waited; 0 where none does."""
        return max((queue.oldest_wait_s for queue in list(self._queues)), default=0.0)

    def queue(self, queue: Queue) -> None:
        """Requests wait there, for as long as it is there."""
        self._queues.add(queue)

    def batch(self, ran: Ran) -> None:
        """One run."""
        with self._changed:
            totals = self._totals
            totals.inferences += ran.rows
            totals.executions += 1
            totals.dispatches[ran.reason] = totals.dispatches.get(ran.reason, 0) + 1
            runs = totals.batches.get(ran.rows)
            if runs is None:
                few = len(totals.batches) < _MOST_SIZES
                runs = totals.batches.setdefault(ran.rows if few else 1 << ran.rows.bit_length() - 1, _Runs())
            runs.count += 1
            runs.input_s += ran.input_s
            runs.infer_s += ran.infer_s
            runs.output_s += ran.output_s

    def answered(self, ran: Ran, waited_s: float) -> None:
        """The request of the current task was in a run."""
        times = _times.get()
        if times is not None:
            times.ran(ran, waited_s)
        if self._traced is not None:
            self._traced(self, ran, waited_s)

    def wrote(self, texts: int) -> None:
        """So many texts were written: each counts as a row and as a run, however many steps it took."""
        with self._changed:
            self._totals.inferences += texts
            self._totals.executions += texts

    def request(self) -> RequestTimes:
        """One request, to the end of the block; it failed if an exception ends it."""
        return RequestTimes(self)

    def ended(self, times: RequestTimes, took_s: float, why: Failure | None) -> None:
        """A request is over; `why` is None where it was answered."""
        with self._changed:
            totals = self._totals
            if why is not None:
                totals.fail.add(took_s)
                totals.failures[why] = totals.failures.get(why, 0) + 1
            else:
                totals.last_inference = time.time()
                totals.answered.add(times, took_s)

    def cache_hit(self, took_s: float) -> None:
        """An answer was found in the cache, in so long."""
        with self._changed:
            self._totals.cache_hit.add(took_s)

    def cache_miss(self, took_s: float) -> None:
        """An answer was looked for and kept afterwards, which took so long besides what it took to compute it."""
        with self._changed:
            self._totals.cache_miss.add(took_s)

    def statistics(self) -> Statistics:
        """The figures as they are now."""
        with self._changed:
            totals, answered = self._totals, self._totals.answered
            return Statistics(
                last_inference_ms=round(totals.last_inference * 1e3),
                inferences=totals.inferences,
                executions=totals.executions,
                success=Sum(answered.count, answered.took_s).now(),
                fail=totals.fail.now(),
                queue=Sum(answered.count, answered.queue_s).now(),
                compute_input=Sum(answered.computed, answered.input_s).now(),
                compute_infer=Sum(answered.computed, answered.infer_s).now(),
                compute_output=Sum(answered.computed, answered.output_s).now(),
                cache_hit=totals.cache_hit.now(),
                cache_miss=totals.cache_miss.now(),
                batches=tuple(totals.batches[rows].now(rows) for rows in sorted(totals.batches)),
                failures=dict(totals.failures),
                dispatches=dict(totals.dispatches),
            )


def _none() -> float:
    return 0


def _waited_s(spans: Sequence[_Span]) -> float:
    """For how long something waited and nothing was computed, seconds."""
    changes = [each for since, began, ended in spans for each in ((since, 1, 0), (began, -1, 1), (ended, 0, -1))]
    waiting = computed = 0
    before = waited_s = 0.0
    for at, waits, computes in sorted(changes):
        if waiting and not computed:
            waited_s += at - before
        waiting += waits
        computed += computes
        before = at
    return waited_s


def _why(error: BaseException) -> Failure:
    """What an error is in Triton's words."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "CANCELED"
    if isinstance(error, (InferenceFailedError, InferenceTimeoutError)):
        return "BACKEND"
    return "REJECTED" if isinstance(error, TiationError) and error.code in _REJECTED else "OTHER"
