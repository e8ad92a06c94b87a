"""What is told of batches: why each went, when, how long its parts took. Who listens is no matter of the scheduler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

__all__ = ["BatchObserver", "Computed", "Dispatch", "Queue", "Ran"]

Result = TypeVar("Result")

Dispatch: TypeAlias = Literal["idle", "full", "preferred", "delay", "closing"]
"""Why a batch went when it did: nothing kept it (`idle`), no more rows fitted (`full`), it had a preferred size, its
oldest request had waited for the longest delay, or the model was about to go."""


class Computed(list[Result]):
    """The results of a run, and how much of its time went into what is not the model.

    Args:
        results: in the order of the items.
        input_s: to put the inputs together.
        output_s: to part the outputs.
    """

    __slots__ = ("input_s", "output_s")

    def __init__(self, results: Iterable[Result], *, input_s: float, output_s: float) -> None:
        super().__init__(results)
        self.input_s, self.output_s = input_s, output_s


@dataclass(frozen=True, slots=True)
class Ran:
    """One run.

    Attributes:
        requests: how many were in it.
        rows: of all of them together.
        began: seconds of `time.perf_counter`.
        ended: as above.
        reason: why it went when it did.
        input_s: of that time, what it took to put the inputs together.
        output_s: of that time, what it took to part the outputs.
    """

    requests: int
    rows: int
    began: float
    ended: float
    reason: Dispatch = "idle"
    input_s: float = 0.0
    output_s: float = 0.0

    @property
    def infer_s(self) -> float:
        """The time in the model."""
        return self.ended - self.began - self.input_s - self.output_s


class Queue(Protocol):
    """Where requests wait."""

    @property
    def oldest_wait_s(self) -> float:
        """For how long the oldest of those that wait has waited; 0 where none does. From any thread."""


class BatchObserver(Protocol):
    """Hears how batches went."""

    def queue(self, queue: Queue) -> None:
        """Requests wait here from now on; called once, when the queue is made."""

    def batch(self, ran: Ran) -> None:
        """A run is over; called on the thread that ran it."""

    def answered(self, ran: Ran, waited_s: float) -> None:
        """A request that waited for so long was in a run; called in its task, before it has its answer."""
