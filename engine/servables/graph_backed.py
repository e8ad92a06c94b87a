"""What a model that computes with one graph says in its graph's words; what it takes and gives is each model's own."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from engine.scheduler.policy import BatchPolicy

__all__ = ["GraphBacked"]


class _Queued(Protocol):
    """A graph behind a queue."""

    @property
    def policy(self) -> BatchPolicy | None:
        """How requests are put together; None where each is computed alone."""

    @property
    def waiting(self) -> int:
        """How many requests wait."""

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered. Blocks."""


Backing = TypeVar("Backing", bound=_Queued)


class GraphBacked(Generic[Backing]):
    """A model with one graph, `_graph`, which has the queue and the memory; whoever inherits this opens it."""

    platform = "onnxruntime"
    _graph: Backing

    @property
    def policy(self) -> BatchPolicy | None:
        """How requests are put together; None where each is computed alone."""
        return self._graph.policy

    @property
    def waiting(self) -> int:
        """How many requests wait for a run."""
        return self._graph.waiting

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered. Blocks."""
        self._graph.close()
