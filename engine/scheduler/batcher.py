"""The batcher: everything that waits and fits together goes into the next run. No delay, no transport.

Measured against a fixed delay it is better at every load: an idle model answers at once, a busy one fills its batches
by itself. One run is in flight, or two where runs are slow and the model allows it: while one of them waits for a core
that something else took, the other goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Generic, TypeAlias, TypeVar

from engine.errors import EngineError, InferenceFailedError, ModelNotReadyError, QueueFullError
from engine.scheduler.observer import BatchObserver, Computed, Dispatch, Ran
from engine.scheduler.terms import PLAIN, Terms

__all__ = ["Batcher", "Item", "Result", "Run"]

_CLOSE_S = 10.0
"""How long what waits may take once the batcher is closed."""
_LOOK_S = 0.05
"""How often it is looked then whether anybody still waits."""
_SLOW_S = 0.005
"""From so long a run on, one beside it is worth the second thread."""
_SLOW_RUNS = 3
"""So many in a row."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Run: TypeAlias = Callable[[Sequence[Item]], Sequence[Result]]


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    """A request in the queue."""

    item: Item
    rows: int
    key: Hashable
    since: float
    terms: Terms
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Result]
    ran: Ran | None = None


class Batcher(Generic[Item, Result]):
    """Runs requests together on a thread or two of its own.

    Args:
        run: computes the results of a batch, in order; it gets at least one item and blocks. What it gives may be
            `Computed`, which says where its time went.
        name: of the model, for its threads.
        max_rows: the most rows in a batch; a request with more runs alone.
        max_waiting: how many requests may wait.
        observer: hears how batches went.
        open_beside: gives what computes a batch while another is computed, with its share of the cores; None where
            that cannot be. It blocks, and is called once: when requests wait for slow runs.
    """

    def __init__(
        self,
        run: Run[Item, Result],
        *,
        name: str,
        max_rows: int,
        max_waiting: int,
        observer: BatchObserver | None = None,
        open_beside: Callable[[], Run[Item, Result] | None] | None = None,
    ) -> None:
        self._run = run
        self._open_beside = open_beside
        self._run_beside: Run[Item, Result] | None = None
        self._name = name
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._observer = observer
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._running: dict[threading.Thread, list[_Waiting[Item, Result]]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._begun = 0
        self._slow_runs = 0
        self._given_up = False
        self._threads: list[threading.Thread] = []
        if observer is not None:
            observer.queue(self)
        self._start(self._serve)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def oldest_wait_s(self) -> float:
        """For how long the oldest of those that wait has waited; 0 where none does."""
        with self._changed:
            return time.perf_counter() - self._queue[0].since if self._queue else 0.0

    async def submit(self, item: Item, *, rows: int, key: Hashable = None, terms: Terms = PLAIN) -> Result:
        """Have an item computed, together with others of the same key.

        Args:
            item: what to compute.
            rows: how many rows it has.
            key: only items of equal keys share a batch.
            terms: for whom, how urgently and until when.

        Raises:
            QueueFullError: too many wait.
            ModelNotReadyError: the batcher is closed.
            EngineError: what the run raised.
        """
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, Result] = _Waiting(
            item, rows, key, time.perf_counter(), terms, loop, loop.create_future()
        )
        with self._changed:
            self._refuse_late()
            if len(self._queue) >= self._max_waiting:
                raise QueueFullError(
                    f"{self._max_waiting} requests wait for the model already; try again later", retry_after_s=1.0
                )
            self._queue.append(waiting)
            self._changed.notify()
        try:
            return await waiting.future
        finally:
            if self._observer is not None and waiting.ran is not None:
                self._observer.answered(waiting.ran, waiting.ran.began - waiting.since)
            del waiting  # which would hold its item in a cycle with the error that ends it

    @contextmanager
    def begun(self) -> Iterator[None]:
        """A request that comes in pieces, up to the end of the block: closing waits for it, and takes them in.

        Raises:
            ModelNotReadyError: the batcher is closed.
        """
        with self._changed:
            self._refuse_late()
            self._begun += 1
        try:
            yield
        finally:
            with self._changed:
                self._begun -= 1
                self._changed.notify_all()

    def _refuse_late(self) -> None:
        if self._is_over():
            raise _closing()

    def _is_over(self) -> bool:
        """Whether nothing more is taken in."""
        return self._closed and (self._given_up or not self._begun)

    def close(self) -> None:
        """Finish what somebody waits for and what is begun, then end the threads. Blocks until then, but not for long.

        What still waits then is refused; a run that is still under way is left to whoever can end it.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        ends = time.monotonic() + _CLOSE_S
        while self._lives(_LOOK_S) and self._is_awaited() and time.monotonic() < ends:
            pass
        if self._lives(0):
            with self._changed:
                self._given_up = True
                left, self._queue = self._queue, deque()
                self._changed.notify_all()
            _settle(left, (), _closing())

    def _lives(self, within_s: float) -> bool:
        """Whether a thread is still at work after so long."""
        for thread in self._threads:
            thread.join(within_s)
        return any(thread.is_alive() for thread in self._threads)

    def _start(self, serve: Callable[[], None]) -> None:
        thread = threading.Thread(target=serve, name=f"batch-{self._name}", daemon=True)
        thread.start()
        self._threads.append(thread)  # only now can it be waited for

    def _serve_beside(self, open_beside: Callable[[], Run[Item, Result] | None]) -> None:
        self._run_beside = open_beside()
        if self._run_beside is not None:
            self._serve()

    def _serve(self) -> None:
        while batch := self._next():
            run = self._way()
            began = time.perf_counter()
            results: Sequence[Result] = ()
            error: Exception | None = None
            try:
                results = run([waiting.item for waiting in batch])
                if len(results) != len(batch):
                    error = InferenceFailedError("the model gave another number of answers than it was asked")
            except EngineError as raised:
                error = raised
            except Exception as raised:  # noqa: BLE001 -- whatever it is, everyone in the batch must hear of it
                error = InferenceFailedError(f"the model failed: {type(raised).__name__}")
            ran = self._ran(batch, began, results)
            for waiting in batch:
                waiting.ran = ran
            if self._observer is not None:
                self._observer.batch(ran, began - batch[0].since)
            if error is not None and len(batch) > 1:
                self._one_by_one(batch)
            else:
                _settle(batch, results, error)
            if self._open_beside is not None and not self._closed and self._is_slow(ran):
                open_beside, self._open_beside = self._open_beside, None
                with suppress(RuntimeError):  # no more threads are to be had: this one goes on alone
                    self._start(partial(self._serve_beside, open_beside))

    def _ran(self, batch: Sequence[_Waiting[Item, Result]], began: float, results: Sequence[Result]) -> Ran:
        """What is told of a run that has just ended."""
        ended = time.perf_counter()
        rows = sum(waiting.rows for waiting in batch)
        input_s, output_s = (results.input_s, results.output_s) if isinstance(results, Computed) else (0.0, 0.0)
        reason: Dispatch = "full" if rows >= self._max_rows else "idle"
        return Ran(len(batch), rows, began, ended, reason, input_s, output_s)

    def _is_slow(self, ran: Ran) -> bool:
        """Whether requests wait for runs that are slow by themselves, and not by what the machine had to do once."""
        self._slow_runs = self._slow_runs + 1 if ran.ended - ran.began >= _SLOW_S and self._queue else 0
        return self._slow_runs >= _SLOW_RUNS

    def _way(self) -> Run[Item, Result]:
        """How this thread's batch is computed: with all cores where nothing else is to be done."""
        with self._changed:
            if self._run_beside is not None and (self._queue or len(self._running) > 1):
                return self._run_beside
        return self._run

    def _one_by_one(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        """Run the members of a failed batch alone, so that one cannot fail the others."""
        for waiting in batch:
            if waiting.future.cancelled():
                continue
            results: Sequence[Result] = ()
            error: Exception | None = None
            try:
                results = self._run([waiting.item])
            except EngineError as raised:
                error = raised
            except Exception as raised:  # noqa: BLE001 -- as above
                error = InferenceFailedError(f"the model failed: {type(raised).__name__}")
            _settle([waiting], results, error)

    def _next(self) -> list[_Waiting[Item, Result]]:
        """What goes into this thread's next run: the oldest request and all that fit with it; empty at the end."""
        with self._changed:
            self._running.pop(threading.current_thread(), None)
            while True:
                self._drop_cancelled()
                if self._queue:
                    break
                if self._is_over():
                    return []
                self._changed.wait()
            first = self._queue.popleft()
            batch, rows = [first], first.rows
            kept: deque[_Waiting[Item, Result]] = deque()
            while self._queue:
                waiting = self._queue.popleft()
                if waiting.key == first.key and rows + waiting.rows <= self._max_rows:
                    batch.append(waiting)
                    rows += waiting.rows
                else:
                    kept.append(waiting)
            self._queue = kept
            self._running[threading.current_thread()] = batch
            return batch

    def _is_awaited(self) -> bool:
        """Whether a caller is still there of the runs under way, of what waits or of what is begun."""
        with self._changed:
            asked = chain(*self._running.values(), self._queue)
            return self._begun > 0 or any(not waiting.future.done() for waiting in asked)

    def _drop_cancelled(self) -> None:
        """Forget requests whose callers went away."""
        if any(waiting.future.cancelled() for waiting in self._queue):
            self._queue = deque(waiting for waiting in self._queue if not waiting.future.cancelled())


def _closing() -> EngineError:
    return ModelNotReadyError("the model is being unloaded; try again", retry_after_s=1.0)


def _settle(batch: Sequence[_Waiting[Item, Result]], results: Sequence[Result], error: Exception | None) -> None:
    """Hand results or the error to the callers, each on its own loop, once."""

    def resolve(members: Sequence[tuple[int, _Waiting[Item, Result]]]) -> None:
        for at, waiting in members:
            if waiting.future.done():
                continue
            if error is not None:
                waiting.future.set_exception(error)
            else:
                waiting.future.set_result(results[at])

    by_loop: dict[int, list[tuple[int, _Waiting[Item, Result]]]] = {}
    for at, waiting in enumerate(batch):
        by_loop.setdefault(id(waiting.loop), []).append((at, waiting))
    for members in by_loop.values():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            members[0][1].loop.call_soon_threadsafe(resolve, members)
