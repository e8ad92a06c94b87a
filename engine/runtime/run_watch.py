"""Ends runs of ONNX Runtime that take too long, that nobody waits for, or that are under way when their model goes.

The runtime looks between two steps of a graph whether it shall end: a single step is always finished. Sessions are
opened and run in `engine.runtime.sessions`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from engine.errors import EngineError, InferenceFailedError, InferenceTimeoutError, ModelNotReadyError
from engine.runtime.onnx import onnxruntime

__all__ = ["RunWatch"]

Result = TypeVar("Result")

_AGAIN_S = 1.0
"""How soon the thread looks again at runs that were told to end and have not yet ended."""


@dataclass(slots=True, eq=False)
class _Run:
    """A run under way.

    Attributes:
        ends: when it is ended, seconds of `time.monotonic`.
        limit_s: how long it may take.
        thread: that waits for it.
        options: what the runtime looks at.
        error: why it was told to end.
    """

    ends: float
    limit_s: float
    thread: int
    options: onnxruntime.RunOptions = field(default_factory=onnxruntime.RunOptions)
    error: EngineError | None = None

    def end(self, error: EngineError) -> None:
        """Tell the runtime to end it."""
        self.error = self.error or error
        self.options.terminate = True


class RunWatch:
    """Watches the runs of one session, from whatever threads they come.

    It has a thread of its own only while something may have to be ended.

    Args:
        gives_back: whether the memory that a run took is given back when it has ended, and not kept for the next one.
    """

    def __init__(self, *, gives_back: bool = False) -> None:
        self._gives_back = gives_back
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._under_way: set[_Run] = set()
        self._watching = False
        self._looks = math.inf
        self._closed = False

    def run(self, compute: Callable[[onnxruntime.RunOptions], Result], limit_s: float) -> Result:
        """What `compute` returns, which hands the options on to the runtime.

        Raises:
            InferenceTimeoutError: it was ended after `limit_s` seconds.
            InferenceFailedError: it was ended because nobody waits for it.
            ModelNotReadyError: it was ended, or not begun, because the model goes.
        """
        run = _Run(time.monotonic() + limit_s, limit_s, threading.get_ident())
        if self._gives_back:
            run.options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with self._lock:
            if self._closed:
                raise _gone()
            self._under_way.add(run)
            if run.ends < self._looks:
                self._see_to(run)
        try:
            return compute(run.options)
        except Exception:  # the runtime raises kinds of its own for a run that was ended
            if run.error is not None:
                raise run.error from None
            raise
        finally:
            with self._lock:
                self._under_way.discard(run)
                if self._closed:
                    self._changed.notify_all()

    def abandon(self, thread: int) -> None:
        """End what a thread computes at this moment: nobody waits for it any more."""
        with self._lock:
            for run in self._under_way:
                if run.thread == thread:
                    run.end(InferenceFailedError("nobody waits for the answer any more"))

    def close(self, within_s: float) -> None:
        """Let no run begin any more, end those that are under way, and wait for so long until they have ended."""
        with self._changed:
            self._closed = True
            for run in self._under_way:
                run.end(_gone())
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._under_way, within_s)

    def _see_to(self, run: _Run) -> None:
        """Have the thread look when a run's time is over; mostly it has to look earlier than that anyway."""
        self._looks = run.ends
        if self._watching:
            self._changed.notify_all()
            return
        self._watching = True
        threading.Thread(target=self._watch, name="run-watch", daemon=True).start()

    def _watch(self) -> None:
        with self._changed:
            while self._under_way and not self._closed:
                now = time.monotonic()
                for run in self._under_way:
                    if run.ends <= now:
                        run.end(_too_long(run.limit_s))
                self._looks = min((run.ends for run in self._under_way if run.error is None), default=now + _AGAIN_S)
                self._changed.wait(self._looks - now)
            self._watching = False
            self._looks = math.inf


def _too_long(limit_s: float) -> EngineError:
    return InferenceTimeoutError(f"the model computed for {limit_s:g} s without an answer and was stopped")


def _gone() -> EngineError:
    return ModelNotReadyError("the model is being unloaded; try again", retry_after_s=1.0)
