"""Graphics processors under Triton's names: those that there are, with what their driver tells."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from engine.gpu_figures import GpuFigures


class Driver:
    """NVIDIA's library with two processors, of which the second does not tell its power."""

    NVMLError = pynvml.NVMLError

    def nvmlInit(self) -> None:
        return

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, at: int) -> int:
        return at

    def nvmlDeviceGetUUID(self, gpu: int) -> str:
        return f"GPU-{gpu}"

    def nvmlDeviceGetUtilizationRates(self, gpu: int):
        return SimpleNamespace(gpu=25 * (gpu + 1))

    def nvmlDeviceGetMemoryInfo(self, _: int):
        return SimpleNamespace(total=80 << 30, used=3 << 30)

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        if gpu:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 71_500

    def nvmlDeviceGetEnforcedPowerLimit(self, _: int) -> int:
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> int:
        return 5_000


def test_each_processor_is_shown_in_tritons_units_and_without_what_is_not_told():
    registry = CollectorRegistry()
    registry.register(GpuFigures(Driver()))
    shown = {
        name: [registry.get_sample_value(name, {"gpu_uuid": f"GPU-{at}"}) for at in range(2)]
        for name in (
            "nv_gpu_utilization", "nv_gpu_memory_total_bytes", "nv_gpu_memory_used_bytes", "nv_gpu_power_usage",
            "nv_gpu_power_limit", "nv_energy_consumption",
        )
    }  # fmt: skip
    assert shown == {
        "nv_gpu_utilization": [0.25, 0.5],
        "nv_gpu_memory_total_bytes": [80 << 30] * 2,
        "nv_gpu_memory_used_bytes": [3 << 30] * 2,
        "nv_gpu_power_usage": [71.5, None],
        "nv_gpu_power_limit": [700] * 2,
        "nv_energy_consumption": [5] * 2,
    }


@pytest.mark.parametrize("fails", ["nvmlInit", "nvmlDeviceGetCount"])
def test_where_there_is_no_driver_nothing_is_shown(fails):
    def broken(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    registry = CollectorRegistry()
    registry.register(GpuFigures(type("Missing", (Driver,), {fails: broken})()))
    assert generate_latest(registry) == b""
