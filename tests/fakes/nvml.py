"""NVIDIA's management library as its header describes it: one GPU that does not tell what it draws."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_NOT_SUPPORTED = 3


class NvmlLibrary:
    """Answers like the library.

    Args:
        fails: a function that answers with `code`.
    """

    def __init__(self, *, fails: str = "", code: int = 999):
        self.fails, self.code = fails, code
        self._functions: dict[str, Callable[..., int]] = {
            "nvmlInit_v2": lambda: 0,
            "nvmlDeviceGetCount_v2": lambda count: _set(count, value=1),
            "nvmlDeviceGetHandleByIndex_v2": lambda _, handle: _set(handle, value=77),
            "nvmlDeviceGetMemoryInfo": lambda _, memory: _set(memory, total=100, free=60, used=40),
            "nvmlDeviceGetUtilizationRates": lambda _, rates: _set(rates, gpu=37, memory=5),
            "nvmlDeviceGetTotalEnergyConsumption": lambda _, energy: _set(energy, value=5_000),
            "nvmlDeviceGetName": _text,
            "nvmlDeviceGetUUID": _text,
            "nvmlSystemGetDriverVersion": _text,
        }

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments) -> int:
            if name == self.fails:
                return self.code
            return self._functions.get(name, lambda *_: _NOT_SUPPORTED)(*arguments)

        return call


def _set(reference, **fields: int) -> int:
    for name, value in fields.items():
        setattr(reference._obj, name, value)
    return 0


def _text(*arguments) -> int:
    *_, text, size = arguments
    assert size.value >= 96
    ctypes.memmove(text, b"words\0", 6)
    return 0
