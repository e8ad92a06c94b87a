"""Outputs that stay where they were computed, to be the inputs of a next run: bound to the session, never copied.

On a device that saves the way over the bus; on the CPU it is as fast as arrays, which the runtime takes and gives
without a copy. Runs that are all arrays are `engine.runtime.sessions`'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from engine.runtime.devices import read_device
from engine.runtime.onnx import onnxruntime
from engine.tensor import Tensor

__all__ = ["Kept", "run_keeping"]


class Kept:
    """A tensor on the device.

    Args:
        value: the runtime's own.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:  # noqa: ANN401 -- the runtime's own type has no stub
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        """Its measures."""
        return tuple(self.value.shape())

    def array(self) -> Tensor:
        """A copy of it in memory."""
        array: Tensor = self.value.numpy()
        return array


def run_keeping(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    keep: Collection[str],
    feeds: Mapping[str, Tensor | Kept],
    options: onnxruntime.RunOptions,
    device: str,
) -> list[Tensor | Kept]:
    """Compute outputs; those to keep stay on the device.

    Args:
        session: of the graph.
        names: of the outputs.
        keep: which of them stay.
        feeds: the inputs by name, arrays or what was kept.
        options: of the run.
        device: as `engine.runtime.devices` reads it.
    """
    where = read_device(device)
    binding = session.io_binding()
    for name, given in feeds.items():
        if isinstance(given, Kept):
            binding.bind_ortvalue_input(name, given.value)
        else:
            binding.bind_cpu_input(name, np.ascontiguousarray(given))
    for name in names:
        if name in keep:
            binding.bind_output(name, where.memory, where.number)
        else:
            binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding, options)
    values = [Kept(value) for value in binding.get_outputs()]
    return [value if name in keep else value.array() for name, value in zip(names, values, strict=True)]
