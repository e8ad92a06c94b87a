"""The batcher: everything that waits and fits together goes into the next run. Threads and futures, no transport.

What goes next is decided in `engine.scheduler.queue`. Measured against a fixed delay, no delay is better at every load:
an idle model answers at once, a busy one fills its batches by itself. One run is in flight, or as many as the model has
lanes; where runs are slow and the model allows it, a second lane is opened: while one waits for a core that something
else took, the other goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import Generic

from engine.errors import EngineError, ModelNotReadyError, QueueFullError, QueueTimeoutError
from engine.scheduler.asked import Asked, let_go, ran_of, settle
from engine.scheduler.inline import Quickness
from engine.scheduler.observer import BatchObserver, Ran
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.queue import Cut, RequestQueue
from engine.scheduler.run import Item, Result, Run, Runner, attempt
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
_RETRY_S = (0.05, 60.0)
"""Nobody is asked to come back sooner or later than that."""


class Batcher(Generic[Item, Result]):
    """Runs requests together on threads of its own.

    Args:
        run: computes the results of a batch, in order; it gets at least one item and blocks. What it gives may be
            `Computed`, which says where its time went.
        name: of the model, for its threads.
        policy: how much may wait, and how batches are cut.
        observer: hears how batches went.
        beside: compute other batches at the same time, on other devices or with other cores.
        inline: whether runs that are seen to be quick may be made on the event loop.
        open_beside: gives what computes a batch while another is computed, with its share of the cores; None where
            that cannot be. It blocks, and is called once: when requests wait for slow runs.
    """

    def __init__(
        self,
        run: Run[Item, Result] | Runner[Item, Result],
        *,
        name: str,
        policy: BatchPolicy,
        observer: BatchObserver | None = None,
        beside: Sequence[Runner[Item, Result]] = (),
        inline: bool = False,
        open_beside: Callable[[], Run[Item, Result] | Runner[Item, Result] | None] | None = None,
    ) -> None:
        self._runner = Runner.of(run)
        self._open_beside = open_beside
        self._narrow: Runner[Item, Result] | None = None
        self._name = name
        self._policy = policy
        self._observer = observer
        self._queue: RequestQueue[Asked[Item, Result]] = RequestQueue(policy)
        self._running: dict[int, tuple[Runner[Item, Result], list[Asked[Item, Result]]]] = {}  # by the thread
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._quick = Quickness() if inline else None
        self._is_planned = False
        self._is_for_threads = False
        self._begun = 0
        self._at_work = 0
        self._slow_runs = 0
        self._request_s = 0.0
        self._given_up = False
        self._threads: list[threading.Thread] = []
        if observer is not None:
            observer.queue(self)
        for runner in (self._runner, *beside):
            self._start(partial(self._serve, runner))

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def oldest_wait_s(self) -> float:
        """For how long the oldest of those that wait has waited; 0 where none does."""
        with self._changed:
            oldest = self._queue.oldest()
            return time.perf_counter() - oldest.since if oldest is not None else 0.0

    async def submit(
        self, item: Item, *, rows: int, key: Hashable = None, terms: Terms = PLAIN, length: int = 0, size: int = 0
    ) -> Result:
        """Have an item computed, together with others of the same key.

        Args:
            item: what to compute.
            rows: how many rows it has.
            key: only items of equal keys share a batch.
            terms: for whom, how urgently and until when.
            length: how long its rows are, where a batch is padded to its longest; 0 where it is not.
            size: how many bytes it keeps in memory while it waits.

        Raises:
            QueueFullError: too many wait.
            QueueTimeoutError: it has waited for as long as it may.
            ModelNotReadyError: the batcher is closed.
            EngineError: what the run raised.
        """
        loop = asyncio.get_running_loop()
        level, within_s = self._policy.admit(terms)
        asked: Asked[Item, Result] = Asked(
            rows, key, terms.owner, level, time.perf_counter(), length, size, item, loop, loop.create_future(), None
        )
        self._put(asked)
        timer = loop.call_later(within_s, self._expire, asked, within_s) if within_s else None
        try:
            return await asked.future
        finally:
            if timer is not None:
                timer.cancel()
            if asked.waits:
                self._remove(asked)
            elif asked.ran is None and asked.future.cancelled():
                self._abandon(asked)
            if self._observer is not None and asked.ran is not None:
                self._observer.answered(asked.ran, asked.ran.began - asked.since)
            del asked, timer  # which would hold its item in a cycle with the error that ends it

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

    def close(self) -> None:
        """Finish what somebody waits for and what is begun, then end the threads. Blocks until then, but not for long.

        What still waits then is refused; a run that is still under way is left to whoever can end it.
        """
        with self._changed:
            self._closed = True
            self._queue.close()
            self._changed.notify_all()
        ends = time.monotonic() + _CLOSE_S
        while self._lives(_LOOK_S) and self._is_awaited() and time.monotonic() < ends:
            pass
        if self._lives(0):
            with self._changed:
                self._given_up = True
                left = self._queue.clear()
                self._changed.notify_all()
            settle(left, (), _closing())

    def _put(self, asked: Asked[Item, Result]) -> None:
        with self._lock:
            if self._closed:
                self._refuse_late()
            try:
                self._queue.put(asked)
            except QueueFullError as full:
                raise QueueFullError(full.message, retry_after_s=self._drained_s()) from None
            quick = self._quick is not None and self._quick.takes(asked.rows, asked.size)
            # One that is not quick may be cut together with all that come while it waits.
            self._is_for_threads = not quick or (self._is_for_threads and len(self._queue) > 1)
            if self._is_for_threads:
                self._changed.notify()
            elif not self._is_planned:
                self._is_planned = True
                asked.loop.call_soon(self._serve_here, asked.loop)

    def _serve_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute what came in this turn of the loop, on the loop."""
        with self._changed:
            self._is_planned = False
            if self._is_for_threads or self._running:
                self._changed.notify()
                return
        cut = self._next(self._runner)
        if cut is not None:
            self._compute(self._runner, cut, loop)
        with self._changed:
            if self._queue and not self._is_planned and not self._is_for_threads:
                self._is_planned = True
                loop.call_soon(self._serve_here, loop)

    def _drained_s(self) -> float:
        """When what waits now will have been computed, by the speed of the last runs."""
        shortest, longest = _RETRY_S
        if not self._request_s:
            return 1.0
        return min(longest, max(shortest, len(self._queue) * self._request_s / len(self._threads)))

    def _remove(self, asked: Asked[Item, Result]) -> bool:
        """Take out what shall not be computed any more; False where it does not wait."""
        with self._changed:
            removed = self._queue.remove(asked)
        if removed:
            del asked.item
        return removed

    def _abandon(self, asked: Asked[Item, Result]) -> None:
        """End the run that a caller is in who has gone, if all others in it have gone as well."""
        with self._lock:
            for thread, (runner, members) in self._running.items():
                if runner.abandon is not None and asked in members and all(each.future.done() for each in members):
                    runner.abandon(thread)

    def _expire(self, asked: Asked[Item, Result], within_s: float) -> None:
        """Its time in the queue is over; called on the caller's own loop, exactly then."""
        if self._remove(asked) and not asked.future.done():
            asked.future.set_exception(QueueTimeoutError(within_s))

    def _refuse_late(self) -> None:
        if self._is_over():
            raise _closing()

    def _is_over(self) -> bool:
        """Whether nothing more is taken in."""
        return self._closed and (self._given_up or not self._begun)

    def _lives(self, within_s: float) -> bool:
        """Whether a thread is still at work after so long."""
        for thread in self._threads:
            thread.join(within_s)
        return any(thread.is_alive() for thread in self._threads)

    def _is_awaited(self) -> bool:
        """Whether a caller is still there of the runs under way, of what waits or of what is begun."""
        with self._changed:
            under_way = chain(*(members for _, members in self._running.values()))
            return bool(self._begun or self._queue) or any(not asked.future.done() for asked in under_way)

    def _start(self, serve: Callable[[], None]) -> None:
        thread = threading.Thread(target=serve, name=f"batch-{self._name}", daemon=True)
        thread.start()
        self._threads.append(thread)  # only now can it be waited for

    def _serve_beside(self, open_beside: Callable[[], Run[Item, Result] | Runner[Item, Result] | None]) -> None:
        narrow = open_beside()
        if narrow is not None:
            self._narrow = Runner.of(narrow)
            self._serve(self._runner)

    def _serve(self, runner: Runner[Item, Result]) -> None:
        with self._lock:
            self._at_work += 1
        while (chosen := self._chosen(runner)) is not None:
            with chosen.turn:
                cut = self._next(chosen)
                if cut is not None:
                    self._compute(chosen, cut)
                del cut

    def _chosen(self, runner: Runner[Item, Result]) -> Runner[Item, Result] | None:
        """Wait until something can be cut, and say how: with all cores where nothing else is to be done.

        Returns:
            None at the end.
        """
        with self._lock:
            self._at_work -= 1
            while (wait_s := self._queue.wait_s(time.perf_counter())) != 0:
                if wait_s is None and self._closed and self._is_over():
                    return None
                self._changed.wait(wait_s)
            self._at_work += 1
            if self._narrow is not None and (self._at_work > 1 or len(self._queue) > self._policy.max_rows):
                return self._narrow
            return runner

    def _next(self, runner: Runner[Item, Result]) -> Cut[Asked[Item, Result]] | None:
        """What goes into this thread's next run; None where another thread has taken it."""
        with self._lock:
            most_rows = self._even_share() if self._running else 0
            while (cut := self._queue.cut(time.perf_counter(), most_rows)) is not None:
                cut.members[:] = [asked for asked in cut.members if not asked.future.done()]  # others have just gone
                if cut.members:
                    self._running[threading.get_ident()] = (runner, cut.members)
                    return cut
        return None

    def _even_share(self) -> int:
        """The most rows of a run beside another, 0 for no limit: beside a short run, all in a long one wait for it."""
        if self._narrow is None:
            return 0
        running = sum(asked.rows for _, members in self._running.values() for asked in members)
        return -(-(running + self._queue.rows) // (len(self._running) + 1))

    def _compute(
        self,
        runner: Runner[Item, Result],
        cut: Cut[Asked[Item, Result]],
        here: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Run a batch and answer everyone in it. Errors' tracebacks lead here: no local name may lead back to them.

        Args:
            runner: what computes it.
            cut: the batch.
            here: the event loop on which this is done; None on a thread of its own.
        """
        batch, began = cut.members, time.perf_counter()
        results, error = attempt(runner.run, [asked.item for asked in batch])
        ran, size = ran_of(batch, began, cut.reason, results)
        if self._observer is not None:
            self._observer.batch(ran)
        if error is not None and len(batch) > 1:
            self._one_by_one(runner, batch, here)
        else:
            settle(batch, results, error, here)
        del results, error
        let_go(batch)
        with self._lock:
            del self._running[threading.get_ident()]
            took_s = (ran.ended - began) / ran.requests
            self._request_s = took_s if not self._request_s else 0.8 * self._request_s + 0.2 * took_s
            if self._quick is not None:
                self._quick.note(ran.ended - began, ran.rows, size)
        if self._open_beside is not None and not self._closed and self._is_slow(ran):
            open_beside, self._open_beside = self._open_beside, None
            with suppress(RuntimeError):  # no more threads are to be had: this one goes on alone
                self._start(partial(self._serve_beside, open_beside))

    def _one_by_one(
        self,
        runner: Runner[Item, Result],
        batch: Sequence[Asked[Item, Result]],
        here: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Run the members of a failed batch alone, so that one cannot fail the others."""
        for at in range(len(batch)):
            if not batch[at].future.done():
                results, error = attempt(runner.run, [batch[at].item])
                settle([batch[at]], results, error, here)
                del results, error

    def _is_slow(self, ran: Ran) -> bool:
        """Whether requests wait for runs that are slow by themselves, and not by what the machine had to do once."""
        self._slow_runs = self._slow_runs + 1 if ran.ended - ran.began >= _SLOW_S and self._queue else 0
        return self._slow_runs >= _SLOW_RUNS


def _closing() -> EngineError:
    return ModelNotReadyError("the model is being unloaded; try again", retry_after_s=1.0)
