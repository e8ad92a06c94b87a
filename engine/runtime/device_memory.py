"""How much memory there is and how much of it is in use: the process' own, and each NVIDIA GPU's.

What models may take of it is `engine.repository.room`'s; figures for Prometheus are `engine.gpu_figures`'.
"""

from __future__ import annotations

from typing import Any

import psutil
import pynvml

from engine.runtime.devices import read_device
from engine.runtime.ledger import CPU

__all__ = ["DeviceMemory"]


class DeviceMemory:
    """Reads memory by device, `cpu` or `cuda:1`; what the driver does not tell of a GPU is 0.

    CUDA counts only the GPUs that `CUDA_VISIBLE_DEVICES` lists, in the order of that list; without one it counts as
    the driver does where all are alike, or where `CUDA_DEVICE_ORDER=PCI_BUS_ID`.

    Args:
        visible: what `CUDA_VISIBLE_DEVICES` says, numbers or UUIDs with commas between; None where it is not set.
        nvml: NVIDIA's library, `pynvml`.
    """

    def __init__(self, visible: str | None = None, nvml: Any = pynvml) -> None:  # noqa: ANN401 -- a module
        self._nvml = nvml
        self._visible = None if visible is None else [each.strip() for each in visible.split(",")]
        self._totals: dict[str, int] = {}

    def total(self, device: str) -> int:
        """Bytes that a GPU has; 0 for the CPU, whose memory others share."""
        if device not in self._totals:
            self._totals[device] = 0 if device == CPU else self._read(device, "total")
        return self._totals[device]

    def used(self, device: str) -> int:
        """Bytes in use now: by this process, or of a GPU by whomever."""
        return int(psutil.Process().memory_info().rss) if device == CPU else self._read(device, "used")

    def _read(self, device: str, part: str) -> int:
        try:
            self._nvml.nvmlInit()
            handle = self._handle(read_device(device).number)
            return int(getattr(self._nvml.nvmlDeviceGetMemoryInfo(handle), part))
        except (self._nvml.NVMLError, LookupError):
            return 0

    def _handle(self, number: int) -> Any:  # noqa: ANN401 -- the driver's own
        if self._visible is None:
            return self._nvml.nvmlDeviceGetHandleByIndex(number)
        name = self._visible[number]
        if name.isdecimal():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)
