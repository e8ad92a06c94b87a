"""The figures of the store of answers; hits and misses are each model's own, see `engine.metrics`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["StoreFigures", "Unkept"]

Unkept: TypeAlias = Literal["unreachable", "slow", "skipped", "busy", "share", "too_large", "invalid"]
"""Why an answer was not kept or not had: the store did not answer (`unreachable`) or not in time (`slow`), was not
asked because it had not answered (`skipped`), too much was to be written already (`busy`), its owner has written as
much as one may (`share`), the answer is larger than is kept (`too_large`), or what came back is none (`invalid`)."""


class StoreFigures:
    """Counts what the store of answers could not do.

    Args:
        registry: where figures are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._unkept = Counter(
            "tiation_cache_unkept", "Answers that were not kept or not had, by cause.", ("cause",), registry=registry
        )
        self._bytes = Gauge("tiation_cache_bytes", "Bytes of the answers that are kept here.", registry=registry)

    def unkept(self, cause: Unkept) -> None:
        """One answer was not kept or not had."""
        self._unkept.labels(cause).inc()

    def holds(self, size_bytes: int) -> None:
        """So much is kept in this process now."""
        self._bytes.set(size_bytes)
