"""The NVIDIA GPUs of this machine, as its driver tells of them through NVML, which comes with the driver.

What uses them is `engine`'s; why one is not used is said by `cli.doctor`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Gpu", "Gpus", "Nvml", "NvmlError", "find_gpus"]

_LIBRARY = "libnvidia-ml.so.1"
_TEXT_BYTES = 96
"""NVML asks for 96 bytes for a name and a UUID, and 80 for a version."""
_DRIVER = Path("/proc/driver/nvidia/version")


class NvmlError(Exception):
    """The driver's library is missing, or answers with an error."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, now.

    Attributes:
        number: as NVML counts them.
        name: of its product.
        uuid: never two alike.
        memory_bytes: all that it has.
        used_bytes: of them in use, by whomever.
        utilization: share of the last moments in which it computed, 0 to 1; None where it does not say.
        power_w: what it draws; None where it does not say.
        power_limit_w: what it may draw.
        energy_j: what it has drawn since the driver was loaded.
    """

    number: int
    name: str
    uuid: str
    memory_bytes: int
    used_bytes: int
    utilization: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Gpus:
    """What was found.

    Attributes:
        found: the GPUs.
        driver: the driver's version; empty where there is none.
        kernel: whether the kernel has the driver's module.
        error: why nothing was found; empty where something was.
    """

    found: tuple[Gpu, ...] = ()
    driver: str = ""
    kernel: bool = False
    error: str = ""


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


@dataclass(slots=True)
class Nvml:
    """The driver's library, opened.

    Args:
        library: its functions.
    """

    library: Any
    handles: list[tuple[int, ctypes.c_void_p]] = field(default_factory=list)

    @classmethod
    def open(cls, load: Callable[[str], Any] = ctypes.CDLL) -> Nvml:
        """The library, with a handle of each GPU.

        Raises:
            NvmlError: there is none, or it does not work.
        """
        try:
            opened = cls(load(_LIBRARY))
        except OSError:
            raise NvmlError(f"{_LIBRARY} is not here: no NVIDIA driver, or a container that was not given it") from None
        opened.call("nvmlInit_v2")
        count = ctypes.c_uint()
        opened.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        for number in range(count.value):
            handle = ctypes.c_void_p()
            opened.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(number), ctypes.byref(handle))
            opened.handles.append((number, handle))
        return opened

    def driver(self) -> str:
        """The driver's version."""
        return self._text("nvmlSystemGetDriverVersion")

    def look(self) -> list[Gpu]:
        """Every GPU, as it is now.

        Raises:
            NvmlError: one does not answer any more.
        """
        return [self._look(number, handle) for number, handle in self.handles]

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 -- ctypes' own
        """Call one function.

        Raises:
            NvmlError: it does not return 0.
        """
        try:
            code = getattr(self.library, name)(*arguments)
        except AttributeError:
            raise NvmlError(f"the driver is too old: it has no {name}") from None
        if code:
            raise NvmlError(f"the driver answers {name} with error {code}")

    def _look(self, number: int, handle: ctypes.c_void_p) -> Gpu:
        memory = _Memory()
        self.call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        used = _Utilization()
        busy = self._maybe("nvmlDeviceGetUtilizationRates", handle, used)
        return Gpu(
            number,
            self._text("nvmlDeviceGetName", handle),
            self._text("nvmlDeviceGetUUID", handle),
            memory.total,
            memory.used,
            used.gpu / 100 if busy else None,
            self._thousandth("nvmlDeviceGetPowerUsage", handle, ctypes.c_uint()),
            self._thousandth("nvmlDeviceGetEnforcedPowerLimit", handle, ctypes.c_uint()),
            self._thousandth("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.c_ulonglong()),
        )

    def _text(self, name: str, *arguments: Any) -> str:  # noqa: ANN401 -- ctypes' own
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        self.call(name, *arguments, text, ctypes.c_uint(_TEXT_BYTES))
        return text.value.decode(errors="replace")

    def _maybe(self, name: str, handle: ctypes.c_void_p, into: Any) -> bool:  # noqa: ANN401 -- ctypes' own
        """Whether it says what not every GPU does."""
        try:
            self.call(name, handle, ctypes.byref(into))
        except NvmlError:
            return False
        return True

    def _thousandth(self, name: str, handle: ctypes.c_void_p, value: Any) -> float | None:  # noqa: ANN401 -- as above
        return value.value / 1000 if self._maybe(name, handle, value) else None


def find_gpus(load: Callable[[str], Any] = ctypes.CDLL, driver: Path = _DRIVER) -> Gpus:
    """The GPUs of this machine; none is no error.

    Args:
        load: opens a library by its name.
        driver: the file in which the kernel tells of the driver.
    """
    kernel = driver.exists()
    found: Sequence[Gpu] = ()
    try:
        nvml = Nvml.open(load)
        found, version = nvml.look(), nvml.driver()
    except NvmlError as error:
        return Gpus(kernel=kernel, error=str(error))
    return Gpus(tuple(found), version, kernel, "" if found else "the driver sees no GPU")
