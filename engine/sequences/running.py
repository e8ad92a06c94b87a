"""The sequences that are under way at one version of a model: their states, their turns and their end.

What a state is made of, and computing a step, is the servable's. All of it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import (
    QueueFullError,
    SequenceExistsError,
    SequenceNotFoundError,
    SequencesFullError,
    SequenceStateError,
)
from engine.scheduler.terms import SequenceTerms
from engine.tensor import Tensor

__all__ = ["Held", "Running", "RunningSequences"]

_MAX_STEPS = 64
"""Steps of one sequence that may wait for each other."""
_LOOK_S = 0.1
"""Sequences that were idle for too long are looked for no more often."""

Key = tuple[str, str]
"""Whose sequence, and its id."""


class Held(Protocol):
    """Keeps a version in memory while sequences are under way."""

    def begin(self) -> None:
        """One more works with it."""

    def end(self) -> None:
        """One fewer."""


@dataclass(slots=True)
class Running:
    """A sequence.

    Attributes:
        state: by input; empty before the first step is over.
        rows: of each step; 0 before the first one.
        size: the bytes of its state.
        used: when its last step was over, seconds of the clock.
        busy: whether a step is under way.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    rows: int = 0
    size: int = 0
    used: float = 0.0
    busy: bool = False


@dataclass(slots=True)
class _Turn:
    """Whose step is next in one sequence."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class RunningSequences:
    """Keeps sequences.

    Args:
        model: its name, for errors.
        max_idle_s: one that was not asked for so long is forgotten.
        max_sequences: so many may be under way.
        max_bytes: what all states may come to.
        held: keeps the version in memory.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        model: str,
        *,
        max_idle_s: float,
        max_sequences: int,
        max_bytes: int,
        held: Held,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self.max_idle_s = max_idle_s
        self.max_sequences = max_sequences
        self._max_bytes = max_bytes
        self._held = held
        self._clock = clock
        self._running: OrderedDict[Key, Running] = OrderedDict()
        self._turns: dict[Key, _Turn] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._running)

    @property
    def size_bytes(self) -> int:
        """What all states come to."""
        return self._bytes

    def has(self, owner: str, sequence: str) -> bool:
        """Whether a sequence is under way here, or a step of it waits."""
        return (owner, sequence) in self._running or (owner, sequence) in self._turns

    @asynccontextmanager
    async def step(self, owner: str, terms: SequenceTerms) -> AsyncIterator[Running]:
        """The next step of a sequence, once those before it are over; it is to call `keep` if it succeeds.

        A step that fails or is cancelled leaves the sequence as it was: it can be sent again.

        Raises:
            SequenceNotFoundError: it is not under way.
            SequenceExistsError: it is, and the step begins one.
            SequencesFullError: too many are.
            QueueFullError: too many of its steps wait.
        """
        key = (owner, terms.id)
        turn = self._turns.setdefault(key, _Turn())
        try:
            if turn.waiting >= _MAX_STEPS:
                raise QueueFullError(
                    f"{_MAX_STEPS} steps of this sequence wait already; send one when the one before is answered",
                    retry_after_s=1.0,
                )
            turn.waiting += 1
            try:
                async with turn.lock, self._stepping(key, terms) as running:
                    yield running
            finally:
                turn.waiting -= 1
        finally:
            if not turn.waiting:
                self._turns.pop(key, None)

    def keep(self, running: Running, state: dict[str, Tensor]) -> None:
        """The state after a step.

        Raises:
            SequenceStateError: all states come to too much with it; the sequence is over.
            SequencesFullError: the same, of a sequence that has just begun.
        """
        size = sum(map(_size, state.values()))
        if self._bytes - running.size + size > self._max_bytes:
            if not running.state:
                raise SequencesFullError(
                    f"the states of {self._model}'s sequences come to {self._bytes} bytes, and may come to "
                    f"{self._max_bytes}; end one, or raise sequence.max_state_bytes",
                    retry_after_s=1.0,
                )
            running.state = {}
            raise SequenceStateError(
                f"the state of this sequence has grown to {size} bytes, and all states of {self._model} may come to "
                f"{self._max_bytes}; the sequence is over: begin again, or raise sequence.max_state_bytes"
            )
        self._bytes += size - running.size
        running.state, running.size = state, size

    def forget(self) -> None:
        """Forget all of them."""
        for key in list(self._running):
            self._end(key)

    @asynccontextmanager
    async def _stepping(self, key: Key, terms: SequenceTerms) -> AsyncIterator[Running]:
        self._sweep()
        running = self._begun(key) if terms.starts else self._known(key)
        running.busy = True
        try:
            yield running
        except BaseException:  # a step that was given up, too, makes way for the next
            self._over(key, running, ended=not running.state)
            raise
        self._over(key, running, ended=terms.ends)

    def _begun(self, key: Key) -> Running:
        if key in self._running:
            raise SequenceExistsError(
                f"sequence `{key[1]}` is under way already; end it first, or begin one with another id",
                sequence=key[1],
            )
        if len(self._running) >= self.max_sequences:
            raise SequencesFullError(
                f"{self.max_sequences} sequences of {self._model} are under way; end one, or try again later",
                retry_after_s=1.0,
            )
        running = self._running[key] = Running(used=self._clock())
        self._held.begin()
        self._arm()
        return running

    def _known(self, key: Key) -> Running:
        running = self._running.get(key)
        if running is None:
            raise SequenceNotFoundError(
                f"sequence `{key[1]}` is not under way here: it has not begun, is over, was not asked for "
                f"{self.max_idle_s:g} s, or is another engine's; begin it with sequence_start",
                sequence=key[1],
            )
        return running

    def _over(self, key: Key, running: Running, *, ended: bool) -> None:
        """A step is over."""
        running.busy, running.used = False, self._clock()
        if ended:
            self._end(key)
        elif key in self._running:
            self._running.move_to_end(key)

    def _end(self, key: Key) -> None:
        running = self._running.pop(key, None)
        if running is not None:
            self._bytes -= running.size
            self._held.end()

    def _sweep(self) -> None:
        """Forget those that were idle for too long; the longest idle come first."""
        ends = self._clock() - self.max_idle_s
        over = []
        for key, running in self._running.items():
            if running.used > ends and not running.busy:
                break
            if not running.busy:
                over.append(key)
        for key in over:
            self._end(key)

    def _arm(self) -> None:
        """Look again when the one that is idle longest will be over, also where nobody asks any more."""
        if self._timer is None and self._running:
            first = next(iter(self._running.values()))
            within_s = max(_LOOK_S, first.used + self.max_idle_s - self._clock())
            self._timer = asyncio.get_running_loop().call_later(within_s, _look, weakref.ref(self))

    def look(self) -> None:
        """Forget those that are over, and look again later."""
        self._timer = None
        self._sweep()
        self._arm()


def _look(kept: weakref.ref[RunningSequences]) -> None:
    """A timer holds no model in memory."""
    sequences = kept()
    if sequences is not None:
        sequences.look()


def _size(state: Tensor) -> int:
    """Bytes of a tensor, with what its texts come to."""
    return int(state.nbytes + (sum(map(len, state.flat)) if state.dtype == object else 0))
