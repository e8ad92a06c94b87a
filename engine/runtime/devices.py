"""Where models compute: the device that settings and manifests name, and what the runtime is told of it.

Nothing here opens a session or looks at a machine, which is `engine.runtime.sessions`'; so all of it is tested where
there is no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from engine.errors import DeviceUnavailableError

__all__ = ["Device", "Provider", "choose", "read_device"]

Provider: TypeAlias = tuple[str, dict[str, str]]
"""The runtime's name of an execution provider, and its options."""

_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_PROVIDERS: Final[Mapping[str, Sequence[str]]] = {"cpu": (_CPU,), "cuda": (_CUDA,), "tensorrt": (_TENSORRT, _CUDA)}
"""Of each kind of device the providers, the first of which must be in use; TensorRT leaves to CUDA what it cannot."""
_INSTALL = (
    "install the package with the extra `gpu` in place of `cpu` (docs/devices.md says how), or set engine.device: cpu"
)


@dataclass(frozen=True, slots=True)
class Device:
    """A device.

    Attributes:
        kind: `cpu`, `cuda` or `tensorrt`.
        number: which of the GPUs, as CUDA counts them.
    """

    kind: str
    number: int = 0

    @property
    def is_gpu(self) -> bool:
        """Whether its memory is another one than the process'."""
        return self.kind != "cpu"

    @property
    def memory(self) -> str:
        """Where its tensors lie, as the runtime calls it; TensorRT's lie where CUDA's do."""
        return "cuda" if self.is_gpu else "cpu"

    @property
    def place(self) -> str:
        """Whose memory it takes: `cpu`, or which GPU's, `cuda:1`."""
        return f"{self.memory}:{self.number}" if self.is_gpu else self.memory

    @property
    def provider(self) -> str:
        """The execution provider that must be in use."""
        return _PROVIDERS[self.kind][0]


def read_device(text: str) -> Device:
    """The device that a setting or a manifest names: `cpu`, `cuda`, `cuda:1`, `tensorrt`, `tensorrt:1`.

    Raises:
        DeviceUnavailableError: there is no such kind.
    """
    kind, colon, number = text.partition(":")
    if kind not in _PROVIDERS or (colon and (kind == "cpu" or not (number.isascii() and number.isdecimal()))):
        raise DeviceUnavailableError(
            f"engine.device: {text!r} is not known; known are cpu, cuda, cuda:1, tensorrt, tensorrt:1", device=text
        )
    return Device(kind, int(number or 0))


def choose(device: Device, available: Sequence[str], *, memory_bytes: int = 0) -> list[Provider]:
    """The providers for a session on a device, with their options.

    Args:
        device: where it shall compute.
        available: the providers that the installed runtime is built with.
        memory_bytes: the most that the arena of one session may take on a GPU; 0 for as much as there is.

    Raises:
        DeviceUnavailableError: the runtime has no such provider; the CPU never steps in.
    """
    for name in _PROVIDERS[device.kind]:
        if name not in available:
            raise DeviceUnavailableError(
                f"engine.device: {device.kind}, but the installed onnxruntime has no {name} (it has "
                f"{', '.join(available)}); {_INSTALL}",
                device=device.kind,
            )
    return [(name, _options(name, device, memory_bytes)) for name in _PROVIDERS[device.kind]]


def _options(provider: str, device: Device, memory_bytes: int) -> dict[str, str]:
    """What a provider is told, by the names in the runtime's own documentation of it."""
    if provider == _CPU:
        return {}
    options = {"device_id": str(device.number)}
    if provider == _TENSORRT:
        # Engines that are kept on disk are found again by the graph's names, not by its weights: another version's, or
        # another tenant's, could be taken. So none are kept, and a model is built anew when it is loaded.
        return {**options, "trt_engine_cache_enable": "0", "trt_timing_cache_enable": "0"}
    options["arena_extend_strategy"] = "kSameAsRequested"  # the other one takes twice as much at each step
    # The runtime's default tries every algorithm for each new shape, and batches have many shapes.
    options["cudnn_conv_algo_search"] = "HEURISTIC"
    if memory_bytes:
        options["gpu_mem_limit"] = str(memory_bytes)
    return options
