"""The memory that models have claimed, for Prometheus, by device; how it is claimed is `engine.runtime.ledger`'s."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from engine.runtime.ledger import Ledger

__all__ = ["MemoryFigures"]


class MemoryFigures(Collector):
    """Shows what all models together take, and may take.

    Args:
        ledger: where it is claimed.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Both, as they are now; a device without a limit has no limit to show."""
        taken = GaugeMetricFamily("tiation_model_memory_bytes", "Memory that models have claimed.", labels=("device",))
        limit = GaugeMetricFamily("tiation_model_memory_limit_bytes", "Memory that they may have.", labels=("device",))
        for device in self._ledger.devices:
            taken.add_metric((device,), self._ledger.taken(device))
            if most := self._ledger.limit_of(device):
                limit.add_metric((device,), most)
        yield taken
        yield limit
