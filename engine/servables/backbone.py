"""What stands on a text encoder that may be replaced at any time: it is made anew whenever another one serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from engine.errors import BackboneError, EngineError
from engine.scheduler.policy import BatchPolicy
from engine.servables.base import Servable
from engine.servables.embedder import Embedder

__all__ = ["EncoderBacked", "Standing"]

Made = TypeVar("Made")


class Standing(Generic[Made]):
    """The encoder that serves now, and what was made with its vectors.

    Args:
        name: of the encoder, as the manifest says it.
        backbone: gives the encoder as it is loaded now.
        make: makes what stands on it.
    """

    def __init__(
        self, name: str, backbone: Callable[[], Servable], make: Callable[[Embedder], Coroutine[Any, Any, Made]]
    ) -> None:
        self._name = name
        self._backbone = backbone
        self._make = make
        self._embedder: Embedder | None = None
        self._making: asyncio.Task[Made] | None = None

    @property
    def policy(self) -> BatchPolicy | None:
        """How the encoder that serves now puts requests together; None where there is none."""
        try:
            return self._backbone().policy
        except EngineError:
            return None

    async def get(self) -> tuple[Embedder, Made]:
        """Both; where another encoder serves than before, what stands on it is made once for all who wait for it.

        Raises:
            BackboneError: the backbone is no text encoder.
        """
        embedder = self._backbone()
        if not isinstance(embedder, Embedder):
            raise BackboneError(f"backbone: `{self._name}` is no text encoder", backbone=self._name)
        making = self._making
        if making is None or self._embedder is not embedder or (making.done() and _failed(making)):
            making = asyncio.get_running_loop().create_task(self._make(embedder))
            making.add_done_callback(_failed)  # its error is read also where all who waited for it have gone
            self._embedder, self._making = embedder, making
        return embedder, await asyncio.shield(making)


class EncoderBacked(Generic[Made]):
    """A model without a graph of its own, `_standing` on an encoder that has the queue and the memory."""

    platform = "tiation-head"
    inferred: tuple[str, ...] = ()
    _standing: Standing[Made]

    @property
    def policy(self) -> BatchPolicy | None:
        """How the encoder puts requests together; None where it is not there."""
        return self._standing.policy

    @property
    def waiting(self) -> int:
        """Nothing waits here; the encoder has the queue."""
        return 0

    def close(self) -> None:
        """Nothing to give back; the encoder stays."""


def _failed(making: asyncio.Task[Made]) -> bool:
    return making.cancelled() or making.exception() is not None
