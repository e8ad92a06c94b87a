"""The kept answers of one version of a model: looked up, or computed once for all who ask the same at the same time.

Where they are kept is a store's; what makes two requests the same is told in `engine.cache.keys`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from engine.cache.codec import AnswerInvalidError, decode_answer, encode_answer
from engine.cache.figures import StoreFigures
from engine.cache.keys import request_key, size_of
from engine.cache.ports import AnswerStore
from engine.errors import EngineError
from engine.scheduler.aside import aside
from engine.scheduler.terms import Terms
from engine.servables.base import Inference, Tensors

__all__ = ["Answers", "CacheObserver"]

_KIB = 1024
Compute: TypeAlias = Callable[[], Awaitable[Inference]]


class CacheObserver(Protocol):
    """Hears how a model's answers were had."""

    def cache_hit(self, took_s: float) -> None:
        """One was kept, or was just being computed for another request."""

    def cache_miss(self, took_s: float) -> None:
        """One was not kept; it took so long to find that out, and to keep it then."""


@dataclass(slots=True)
class _Flight:
    """An answer that is being computed: which, by what, and for how many."""

    of: tuple[bytes, Terms]
    task: asyncio.Task[Inference] = field(init=False)
    waiting: int = 0
    kept_s: float = 0.0


class Answers:
    """Keeps the answers of a model.

    Args:
        store: where they are kept.
        store_figures: counts what came back from it and is none.
        observer: hears of hits and misses.
    """

    def __init__(self, store: AnswerStore, store_figures: StoreFigures, observer: CacheObserver) -> None:
        self._store = store
        self._store_figures = store_figures
        self._observer = observer
        self._flights: dict[tuple[bytes, Terms], _Flight] = {}

    async def infer(
        self,
        scope: Sequence[str],
        tensors: Tensors,
        terms: Terms,
        compute: Compute,
        holds: Callable[[], bool] = lambda: True,
    ) -> Inference:
        """The answer to a request, kept or computed.

        Args:
            scope: whom is asked, and for what: the version with all that it stands on.
            tensors: the inputs.
            terms: whose request it is; nobody gets what was computed for another owner.
            compute: computes the answer.
            holds: whether what has computed it is still what is asked; else the answer is not kept.

        Raises:
            EngineError: what `compute` raised for this request; no error is kept, nor shared.
        """
        began = time.perf_counter()
        key = await aside(size_of(tensors), request_key, (terms.owner, *scope), tensors)
        kept = await self._kept(key)
        took_s = time.perf_counter() - began
        if kept is not None:
            self._observer.cache_hit(took_s)
            return kept
        flight = self._flights.get((key, terms))
        if flight is None:
            flight = self._begin(key, terms, compute, holds)
            try:
                return await self._wait(flight)
            finally:
                self._observer.cache_miss(took_s + flight.kept_s)
        try:
            answer = await self._wait(flight)
        except EngineError:  # of the other request, which may have waited too long, for instance
            self._observer.cache_miss(took_s)
            return await compute()
        self._observer.cache_hit(time.perf_counter() - began)
        return answer

    async def _kept(self, key: bytes) -> Inference | None:
        data = await self._store.get(key)
        if data is None:
            return None
        try:
            return await aside(len(data) // _KIB, decode_answer, data)
        except AnswerInvalidError:
            self._store_figures.unkept("invalid")
            return None

    def _begin(self, key: bytes, terms: Terms, compute: Compute, holds: Callable[[], bool]) -> _Flight:
        flight = _Flight((key, terms))
        flight.task = asyncio.get_running_loop().create_task(self._compute(flight, compute, holds))
        self._flights[flight.of] = flight

        def landed(task: asyncio.Task[Inference]) -> None:
            self._forget(flight)
            if not task.cancelled():
                task.exception()  # it is read, also where all who waited for it have gone

        flight.task.add_done_callback(landed)
        return flight

    async def _compute(self, flight: _Flight, compute: Compute, holds: Callable[[], bool]) -> Inference:
        answer = await compute()
        if not holds():
            return answer
        began = time.perf_counter()
        size = sum(value.size if value.dtype == object else value.nbytes // _KIB for value in answer.outputs.values())
        key, terms = flight.of
        self._store.put(key, await aside(size, encode_answer, answer), terms.owner)
        flight.kept_s = time.perf_counter() - began
        return answer

    async def _wait(self, flight: _Flight) -> Inference:
        """Its answer; where all who waited have gone, it is not computed any further."""
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._forget(flight)  # at once, or somebody could still wait for what is about to be cancelled
                flight.task.cancel()

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.of) is flight:
            del self._flights[flight.of]
