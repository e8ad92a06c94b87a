"""The NVIDIA GPUs of this machine, as its driver tells of them.

What follows from them is `cli.doctor.device`'s; their figures while the engine runs are `engine.gpu_figures`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

__all__ = ["Gpu", "Gpus", "find_gpus"]

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        name: of its product.
        memory_bytes: all that it has.
    """

    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Gpus:
    """What was found.

    Attributes:
        found: the GPUs, in the order in which the driver counts them.
        driver: the driver's version; empty where there is none.
        kernel: whether the kernel has the driver's module.
        error: why nothing was found; empty where something was.
    """

    found: tuple[Gpu, ...] = ()
    driver: str = ""
    kernel: bool = False
    error: str = ""


def find_gpus(nvml: Any = pynvml, driver: Path = _DRIVER) -> Gpus:  # noqa: ANN401 -- a module
    """The GPUs of this machine; none is no error.

    Args:
        nvml: NVIDIA's library, `pynvml`.
        driver: the file in which the kernel tells of the driver.
    """
    kernel = driver.exists()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Gpus(kernel=kernel, error=f"the driver's library says: {error}")
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
        found = tuple(
            Gpu(str(nvml.nvmlDeviceGetName(each)), nvml.nvmlDeviceGetMemoryInfo(each).total) for each in handles
        )
        return Gpus(found, str(nvml.nvmlSystemGetDriverVersion()), kernel, "" if found else "the driver sees no GPU")
    except nvml.NVMLError as error:
        return Gpus(kernel=kernel, error=f"the driver says: {error}")
    finally:
        nvml.nvmlShutdown()
