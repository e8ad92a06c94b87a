"""So many clients at once, each of which asks again when it has its answer; what they ask is not known here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

__all__ = ["CALL_S", "Clients"]

A = TypeVar("A")
CALL_S = 60.0
"""How long one request may take."""
_WARM_S = 0.3
_FIRST_S = 10.0
_BACK_OFF_S = 0.02
"""How long a client that was refused waits before it asks again."""


@dataclass(slots=True)
class Clients:
    """Clients at work.

    Attributes:
        ask: asks once, given a number that tells requests apart, and notes what it sees while `measuring`; raises
            grpc.RpcError where it is refused.
        seen: how many answers were noted.
        stop: set when they shall end.
        measuring: set while what they see counts.
        refused: requests that were answered RESOURCE_EXHAUSTED.
        error: what else one of them was answered, which ends all.
    """

    ask: Callable[[int], None]
    seen: Callable[[], int]
    stop: threading.Event = field(default_factory=threading.Event)
    measuring: threading.Event = field(default_factory=threading.Event)
    refused: int = 0
    error: Exception | None = None

    def measured(self, concurrency: int, seconds: float, count: Callable[[], A]) -> tuple[float, A, A]:
        """Let them work, and measure for a while, after a moment that is not; ten seconds longer for a first answer.

        Args:
            concurrency: how many there are.
            seconds: how long.
            count: read when it begins and when it ends.

        Returns:
            How long was measured, seconds, and what `count` said before and after.

        Raises:
            grpc.RpcError: a request was refused for another reason than that there is no place.
        """
        threads = [threading.Thread(target=self._work, args=(at,), daemon=True) for at in range(concurrency)]
        for thread in threads:
            thread.start()
        try:
            self.stop.wait(min(_WARM_S, seconds))
            before, began = count(), time.perf_counter()
            self.measuring.set()
            self.stop.wait(seconds)
            while not (self.seen() or self.stop.is_set()) and time.perf_counter() - began < seconds + _FIRST_S:
                self.stop.wait(_BACK_OFF_S)  # a slow model gets the time for one answer
            self.measuring.clear()
            took, after = time.perf_counter() - began, count()
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(CALL_S)
        if self.error is not None:
            raise self.error
        return took, before, after

    def _work(self, at: int) -> None:
        """One client."""
        while not self.stop.is_set():
            try:
                self.ask(at)
            except Exception as error:  # noqa: BLE001 -- raised again where all have ended
                failed: Any = error
                if not isinstance(error, grpc.RpcError) or failed.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self.error = self.error or error
                    self.stop.set()
                    return
                self.refused += self.measuring.is_set()
                self.stop.wait(_BACK_OFF_S)
            at += 1
