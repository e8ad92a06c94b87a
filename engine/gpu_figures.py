"""The machine's graphics processors for Prometheus, under Triton's names; nothing where there are none.

What the driver does not tell of a processor is left out for that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pynvml
from prometheus_client.core import GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["GpuFigures"]

_FIGURES: Mapping[str, tuple[str, Callable[[Any, Any], float]]] = {
    "nv_gpu_utilization": (
        "Share of the time in which the processor computed, 0 to 1.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    "nv_gpu_memory_total_bytes": (
        "Memory of the processor.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    "nv_gpu_memory_used_bytes": ("Memory in use.", lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    "nv_gpu_power_usage": ("Power that it takes, watts.", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
    "nv_gpu_power_limit": (
        "The most that it may take, watts.",
        lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3,
    ),
    "nv_energy_consumption": (
        "Energy that it has taken since the driver was loaded, joules.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
    ),
}
"""Each figure: what it is, and how the driver tells it; NVML has milliwatts and millijoules."""
_COUNTERS = frozenset({"nv_energy_consumption"})


class GpuFigures(Collector):
    """Shows the figures of all graphics processors.

    Args:
        nvml: NVIDIA's library, `pynvml`.
    """

    def __init__(self, nvml: Any = pynvml) -> None:  # noqa: ANN401 -- a module
        self._nvml = nvml
        self._gpus = dict(_found(nvml))

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        for name, (text, read) in _FIGURES.items():
            if not self._gpus:
                return
            made = UnknownMetricFamily if name in _COUNTERS else GaugeMetricFamily
            family = made(name, text, labels=("gpu_uuid",))
            for uuid, gpu in self._gpus.items():
                try:
                    family.add_metric((uuid,), read(self._nvml, gpu))
                except self._nvml.NVMLError:
                    continue
            yield family


def _found(nvml: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 -- as above
    """The processors by their UUIDs; none where there is no driver."""
    try:
        nvml.nvmlInit()
        for at in range(nvml.nvmlDeviceGetCount()):
            gpu = nvml.nvmlDeviceGetHandleByIndex(at)
            yield nvml.nvmlDeviceGetUUID(gpu), gpu
    except nvml.NVMLError:
        return
