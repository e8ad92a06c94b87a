"""Continuous batching: before each step answers join and leave, and every step makes one token for all under way.

The scheme is Orca's (Yu et al., OSDI 2022): between two steps at most one piece of a prompt is read, so that long
prompts do not keep the others waiting. What an answer may come to is set aside when it begins: none is broken off.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, InferenceFailedError, ModelNotReadyError
from engine.generation.cache import Cache, empty_cache, joined
from engine.generation.decoder import Decoder
from engine.generation.outbox import Outbox, wake
from engine.generation.sampling import choose, scores
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
    """

    max_running: int
    max_waiting: int
    cache_tokens: int
    prefill_tokens: int


class StepObserver(Protocol):
    """Hears how it goes; called on the loop's thread."""

    def first(self, waited_s: float, prompt_tokens: int) -> None:
        """An answer has its first token, so long after it was asked for."""

    def step(self, took_s: float, rows: int) -> None:
        """A step made a token for each of so many rows."""

    def ended(self, tokens: int, took_s: float) -> None:
        """An answer of so many tokens has ended, so long after its first one."""


@dataclass(slots=True)
class _Reading:
    """Prompts that are being read.

    Attributes:
        sequences: whose prompts.
        cache: what is read of them.
        at: how many tokens that is, of one long prompt.
    """

    sequences: list[SequenceState]
    cache: Cache
    at: int = 0


class GenerationLoop:
    """Computes answers together, on a thread of its own.

    Args:
        decoder: the model.
        name: of it, for the thread.
        limits: how much it takes on.
        observer: hears how it goes.
    """

    def __init__(self, decoder: Decoder, *, name: str, limits: LoopLimits, observer: StepObserver) -> None:
        self._decoder = decoder
        self._limits = limits
        self._observer = observer
        self._waiting = Waiting(limits.max_waiting)
        self._admitted: deque[SequenceState] = deque()
        self._reading: _Reading | None = None
        self._running: list[SequenceState] = []
        self._cache = empty_cache(decoder.form, 0)
        self._rung: list[Outbox] = []
        self._changed = threading.Condition()
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
        cache = self._cache
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
            self._changed.notify()
        if pushed_out is not None:
            pushed_out.outbox.fail(queue_full(self._limits.max_waiting))
            wake([pushed_out.outbox])

    def cancel(self, sequence: SequenceState) -> None:
        """Nobody wants an answer any more: before the next step it is gone."""
        with self._changed:
            sequence.cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """Finish what somebody waits for, then end the thread. Blocks until then, but not for long.

        What is still under way then ends with an error.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        ends = time.monotonic() + _CLOSE_S
        while self._lives(_LOOK_S) and self._is_awaited() and time.monotonic() < ends:
            pass
        with self._changed:
            self._given_up = True
            self._changed.notify_all()
        if self._lives(_LOOK_S):  # a run is under way that only its session can end
            self._fail([*self._under_way(), *self._waiting.clear()], _closing())

    def _lives(self, within_s: float) -> bool:
        self._thread.join(within_s)
        return self._thread.is_alive()

    def _is_awaited(self) -> bool:
        with self._changed:
            return any(not each.cancelled for each in chain(self._under_way(), self._waiting.every()))

    def _under_way(self) -> Sequence[SequenceState]:
        reading = self._reading
        return [*self._running, *(reading.sequences if reading else ()), *self._admitted]

    def _serve(self) -> None:
        while self._go_on():
            try:
                self._drop_cancelled()
                self._read()
                self._step()
            except Exception as error:  # noqa: BLE001 -- whatever it is, everyone under way must hear of it
                self._fail(self._under_way(), _failed(error))
                self._running, self._reading, self._cache = [], None, empty_cache(self._decoder.form, 0)
                self._admitted.clear()
            wake(self._rung)
            self._rung = []
        self._fail([*self._under_way(), *self._waiting.clear()], _closing())

    def _go_on(self) -> bool:
        """Let those in whose turn it is; wait while there is nothing to do. False at the end."""
        with self._changed:
            while not self._given_up:
                now = time.perf_counter()
                for gone, error in self._waiting.sweep(now):
                    if error is not None:
                        self._fail([gone], error)
                self._admit()
                if self._running or self._reading or self._admitted:
                    return True
                if self._closed and not len(self._waiting):
                    return False
                ends = self._waiting.earliest_end()
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
        self._admitted = deque(each for each in self._admitted if not each.cancelled)
        reading = self._reading
        if reading is not None and all(each.cancelled for each in reading.sequences):
            self._reading = None
        self._keep([row for row, each in enumerate(self._running) if not each.cancelled])

    def _keep(self, rows: Sequence[int], come: Sequence[SequenceState] = (), cache: Cache | None = None) -> None:
        """Let some rows under way stay, and others join them."""
        if len(rows) == len(self._running) and not come:
            return
        kept = [self._running[row] for row in rows]
        parts: list[tuple[Cache, Sequence[int]]] = [(self._cache, rows)] if rows else []
        if cache is not None and come:
            parts.append((cache, range(cache.rows)))
        self._cache = joined(parts) if parts else empty_cache(self._decoder.form, 0)
        self._running = [*kept, *come]

    def _read(self) -> None:
        """Read the next piece of a prompt, or some short prompts together; who is read makes a first token."""
        with self._changed:
            if self._reading is None and self._admitted:
                self._reading = _Reading(self._next_prompts(), empty_cache(self._decoder.form, 1))
        reading, budget = self._reading, self._limits.prefill_tokens
        if reading is None:
            return
        sequences = reading.sequences
        try:
            if len(sequences[0].prompt) <= budget:
                cache, logits = self._decoder.begin([each.prompt for each in sequences])
            else:
                piece = np.array([sequences[0].prompt[reading.at : reading.at + budget]], np.int64)
                cache, logits = self._decoder.step(reading.cache, piece)
                reading.cache, reading.at = cache, reading.at + piece.shape[1]
                if reading.at < len(sequences[0].prompt):
                    return
        except Exception as error:  # noqa: BLE001 -- it fails those alone whose prompts these are
            self._reading = None
            self._fail(sequences, _failed(error))
            return
        go_on = self._advance(sequences, logits)
        if go_on:
            rows = range(len(self._running))
            self._keep(rows, [sequences[row] for row in go_on], joined([(cache, go_on)]))
        self._reading = None

    def _next_prompts(self) -> list[SequenceState]:
        """A long prompt, or as many short ones as are read at once."""
        group = [self._admitted.popleft()]
        longest = len(group[0].prompt)
        while self._admitted:
            longest = max(longest, len(self._admitted[0].prompt))
            if (len(group) + 1) * longest > self._limits.prefill_tokens:
                break
            group.append(self._admitted.popleft())
        return group

    def _step(self) -> None:
        """One token for each answer under way."""
        if not self._running:
            return
        began = time.perf_counter()
        ids = np.array([[each.last] for each in self._running], np.int64)
        try:
            self._cache, logits = self._decoder.step(self._cache, ids)
        except Exception as error:  # noqa: BLE001 -- it fails those alone who were in it
            self._fail(self._running, _failed(error))
            self._running, self._cache = [], empty_cache(self._decoder.form, 0)
            return
        go_on = self._advance(self._running, logits)
        self._observer.step(time.perf_counter() - began, len(ids))
        self._keep(go_on)

    def _advance(self, sequences: Sequence[SequenceState], logits: NDArray[np.float32]) -> list[int]:
        """Choose the next token of each and hand on what it completes; the rows that go on."""
        tops = [each.top_logprobs for each in sequences]
        told = logits.copy() if any(top is not None for top in tops) else logits
        failed: dict[int, EngineError] = {}
        for row, each in enumerate(sequences):
            if each.constraint is not None:
                try:
                    each.constraint.forbid(logits[row])
                except EngineError as error:
                    failed[row] = error
        tokens = choose(logits, [each.chances for each in sequences])
        scored = scores(told, tokens, tops)
        go_on, now = [], time.perf_counter()
        for row, (each, token) in enumerate(zip(sequences, tokens.tolist(), strict=True)):
            if row in failed or token < 0:
                self._fail([each], failed.get(row) or InferenceFailedError("the model gave logits that are no numbers"))
                continue
            try:
                each.chances.note(token)
                complete = each.constraint is not None and each.constraint.take(token)
                piece = each.answer.push(token, scored[row], complete=complete)
            except EngineError as error:
                self._fail([each], error)
                continue
            if not each.told_at:
                each.told_at = now
                self._observer.first(now - each.since, len(each.prompt))
            each.last = token
            over = piece is not None and piece.finish is not None
            if piece is not None:
                over = not each.outbox.put(piece) or over
                self._rung.append(each.outbox)
            if over:
                self._observer.ended(each.answer.made, now - each.told_at)
            else:
                go_on.append(row)
        return go_on

    def _fail(self, sequences: Sequence[SequenceState], error: EngineError) -> None:
        for each in sequences:
            each.outbox.fail(error)
        wake([each.outbox for each in sequences])


def _failed(error: Exception) -> EngineError:
    return (
        error if isinstance(error, EngineError) else InferenceFailedError(f"the model failed: {type(error).__name__}")
    )


def _closing() -> EngineError:
    return ModelNotReadyError("the model is being unloaded; try again", retry_after_s=1.0)
