"""Continuous batching: before each step answers join and leave, and every step makes one token for all under way.

The scheme is Orca's (Yu et al., OSDI 2022): between two steps at most one piece of a prompt is read, so that long
prompts do not keep the others waiting. What an answer may come to is set aside when it begins: none is broken off.

Between two runs of the model only that is done without which the next cannot begin: tokens are chosen and left for
their readers. Text is made of them, and schemas are looked ahead, while the next run computes, outside Python's lock.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, InferenceFailedError, ModelNotReadyError
from engine.generation.decoder import Decoder
from engine.generation.outbox import Courier, StepResult
from engine.generation.prefill import Prefill, next_prompts
from engine.generation.prefixes import Prefixes
from engine.generation.rows import Rows, no_rows
from engine.generation.sequence import SequenceState
from engine.generation.waiting import Waiting, queue_full

__all__ = ["GenerationLoop", "LoopLimits", "StepObserver"]

_CLOSE_S = 10.0
"""How long what is under way may take once the loop is closed."""
_LOOK_S = 0.05
"""How often it is looked then whether anybody still waits."""


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """How much a model takes on.

    Attributes:
        max_running: the most answers under way at once.
        max_waiting: the most that wait.
        cache_tokens: the most tokens in the cache, padding included: rows times the longest that one may become.
        prefill_tokens: the most tokens of prompts that are read between two steps.
        prefix_tokens: the most tokens of prompts that are kept for those that begin alike.
    """

    max_running: int
    max_waiting: int
    cache_tokens: int
    prefill_tokens: int
    prefix_tokens: int


class StepObserver(Protocol):
    """Hears how it goes; called on the loop's thread."""

    def first(self, waited_s: float, prompt_tokens: int, shared: int) -> None:
        """An answer has its first token, so long after it was asked for; so much of its prompt was read before."""

    def step(self, took_s: float, rows: int) -> None:
        """A step made a token for each of so many rows."""


class GenerationLoop:
    """Computes answers together, on a thread of its own.

    Args:
        decoder: the model.
        name: of it, for the thread.
        limits: how much it takes on.
        ends: tokens that end an answer.
        observer: hears how it goes.
    """

    def __init__(
        self, decoder: Decoder, *, name: str, limits: LoopLimits, ends: Sequence[int], observer: StepObserver
    ) -> None:
        self._decoder = decoder
        self._limits = limits
        self._observer = observer
        self._ends = np.zeros(decoder.form.vocabulary + 1, bool)
        self._ends[[*(each for each in ends if each < decoder.form.vocabulary), -1]] = True
        self._waiting = Waiting(limits.max_waiting)
        self._admitted: deque[SequenceState] = deque()
        self._prefill: Prefill | None = None
        self._prefixes = Prefixes(limits.prefix_tokens)
        self._rows = no_rows(decoder)
        self._courier = Courier()
        self._beside = ThreadPoolExecutor(1, f"look-ahead-{name}")
        self._changed = threading.Condition()
        self._news = self._is_new = True
        self._looks_at = math.inf
        self._closed = self._given_up = False
        self._thread = threading.Thread(target=self._serve, name=f"generate-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many answers wait for their turn."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many answers are under way."""
        return sum(1 for _ in self._under_way())

    @property
    def cache_share(self) -> float:
        """How much of the cache is in use, from 0 to 1."""
        cache = self._rows.cache
        return cache.rows * cache.tokens / self._limits.cache_tokens

    def submit(self, sequence: SequenceState) -> None:
        """Have an answer computed; its outbox gets the pieces, or the error.

        Raises:
            QueueFullError: too many wait.
            ModelNotReadyError: the loop is closed.
        """
        with self._changed:
            if self._closed:
                raise _closing()
            pushed_out = self._waiting.add(sequence)
            sequence.outbox.unread = partial(self.cancel, sequence)
            self._notify()
        if pushed_out is not None:
            self._fail([pushed_out], queue_full(self._limits.max_waiting))

    def cancel(self, sequence: SequenceState) -> None:
        """Nobody wants an answer any more: before the next step it is gone."""
        sequence.outbox.unread = None
        with self._changed:
            sequence.cancelled = True
            self._notify()

    def close(self) -> None:
        """Finish what somebody waits for, then end the thread. Blocks until then, but not for long.

        What is still under way then ends with an error.
        """
        with self._changed:
            self._closed = True
            self._notify()
        ends = time.monotonic() + _CLOSE_S
        while self._lives(_LOOK_S) and self._is_awaited() and time.monotonic() < ends:
            pass
        with self._changed:
            self._given_up = True
            self._notify()
        if self._lives(_LOOK_S):  # a run is under way that only its session can end
            self._fail([*self._under_way(), *self._waiting.clear()], _closing())

    def _lives(self, within_s: float) -> bool:
        self._thread.join(within_s)
        return self._thread.is_alive()

    def _is_awaited(self) -> bool:
        with self._changed:
            return any(not each.cancelled for each in chain(self._under_way(), self._waiting.every()))

    def _under_way(self) -> Sequence[SequenceState]:
        prefill = self._prefill
        return [*self._rows.sequences, *(prefill.sequences if prefill else ()), *self._admitted]

    def _notify(self) -> None:
        """Have the thread look at who waits and who went away; under the lock."""
        self._news = True
        self._changed.notify()

    def _serve(self) -> None:
        while self._go_on():
            try:
                self._drop_cancelled()
                self._read()
                self._step()
            except Exception as error:  # noqa: BLE001 -- whatever it is, everyone under way must hear of it
                self._fail(self._under_way(), _failed(error))
                self._prefill = None
                self._admitted.clear()
                self._take(no_rows(self._decoder))
        self._fail([*self._under_way(), *self._waiting.clear()], _closing())
        self._beside.shutdown(wait=False)

    def _go_on(self) -> bool:
        """Let those in whose turn it is; wait while there is nothing to do. False at the end."""
        under_way = self._rows.sequences or self._prefill is not None
        self._is_new = self._news or not under_way or time.perf_counter() >= self._looks_at
        if not self._is_new:
            return True
        with self._changed:
            while not self._given_up:
                self._news = False
                now = time.perf_counter()
                for gone, error in self._waiting.sweep(now):
                    if error is not None:
                        self._fail([gone], error)
                self._admit()
                ends = self._waiting.earliest_end()
                self._looks_at = math.inf if ends is None else ends
                if self._under_way():
                    return True
                if self._closed and not len(self._waiting):
                    return False
                self._changed.wait(None if ends is None else max(0.0, ends - now))
            return False

    def _admit(self) -> None:
        """Let in who fits: each row of the cache may become as long as the longest of all."""
        under_way = list(self._under_way())
        longest = max((each.reserved for each in under_way), default=0)
        while len(under_way) < self._limits.max_running:
            sequence = self._waiting.next(under_way)
            if sequence is None:
                return
            longest = max(longest, sequence.reserved)
            if under_way and (len(under_way) + 1) * longest > self._limits.cache_tokens:
                return
            self._waiting.remove(sequence)
            self._admitted.append(sequence)
            under_way.append(sequence)

    def _drop_cancelled(self) -> None:
        """Forget answers that nobody wants any more."""
        if not self._is_new:
            return
        self._admitted = deque(each for each in self._admitted if not each.cancelled)
        prefill = self._prefill
        if prefill is not None and all(each.cancelled for each in prefill.sequences):
            self._prefill = None
        self._keep([row for row, each in enumerate(self._rows.sequences) if not each.cancelled])

    def _keep(self, rows: Sequence[int]) -> None:
        """Let some rows stay and the others go."""
        if len(rows) < len(self._rows):
            self._take(self._rows.part(rows) if rows else no_rows(self._decoder))

    def _take(self, rows: Rows) -> None:
        """From now on these are under way; who waits may have room."""
        self._rows, self._news = rows, True

    def _read(self) -> None:
        """Read the next piece of a prompt, or some short prompts together; who is read makes a first token."""
        if self._prefill is None and self._admitted:
            budget = self._limits.prefill_tokens
            with self._changed:
                prompts = next_prompts(self._admitted, self._prefixes, budget)
                self._prefill = Prefill(prompts, self._prefixes, self._decoder, budget, self._ends)
        prefill = self._prefill
        if prefill is None:
            return
        try:
            read = prefill.read()
        except Exception as error:  # noqa: BLE001 -- it fails those alone whose prompts these are
            self._prefill = None
            self._fail(prefill.sequences, _failed(error))
            return
        if read is None:
            return
        come, logits = read
        now = time.perf_counter()
        result = self._advance(come, logits, now)
        for row, each in enumerate(come.sequences):
            if not isinstance(result.ends.get(row), EngineError):
                self._observer.first(now - each.since, len(each.prompt), prefill.shared[row])
        if go_on := result.go_on():
            self._take(self._rows.and_those(come if len(go_on) == len(come) else come.part(go_on)))
        self._prefill = None

    def _step(self) -> None:
        """One token for each answer under way."""
        rows = self._rows
        if not rows.sequences:
            return
        began = time.perf_counter()
        ahead = self._beside.submit(rows.look_ahead) if rows.are_constrained else None
        try:
            logits = rows.step()
            if ahead is not None:
                ahead.result()
        except Exception as error:  # noqa: BLE001 -- it fails those alone who were in it
            self._fail(rows.sequences, _failed(error))
            self._take(no_rows(self._decoder))
            return
        now = time.perf_counter()
        self._keep(self._advance(rows, logits, now).go_on())
        self._observer.step(now - began, len(rows))

    def _advance(self, rows: Rows, logits: NDArray[np.float32], now: float) -> StepResult:
        """Choose the next token of each and leave it for its reader."""
        result = rows.advance(logits, now)
        self._courier.send(result, rows.loops)
        return result

    def _fail(self, sequences: Sequence[SequenceState], error: EngineError) -> None:
        self._courier.fail([each.outbox for each in sequences], error)


def _failed(error: Exception) -> EngineError:
    return (
        error if isinstance(error, EngineError) else InferenceFailedError(f"the model failed: {type(error).__name__}")
    )


def _closing() -> EngineError:
    return ModelNotReadyError("the model is being unloaded; try again", retry_after_s=1.0)
