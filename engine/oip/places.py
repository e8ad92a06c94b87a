"""Where tensors lie in shared memory, as the parameters of inputs and of outputs that are asked for say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import ParameterError
from engine.parameters import Parameter

__all__ = ["Place", "read_place"]

_REGION, _OFFSET, _SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes in a region of shared memory; for an output `byte_size` is the most that it may have."""

    region: str
    offset: int
    byte_size: int


def read_place(parameters: Mapping[str, Parameter], tensor: str) -> Place | None:
    """Where a tensor lies in shared memory; None where it does not.

    Args:
        parameters: of the tensor.
        tensor: what an error calls it: `inputs[x].`

    Raises:
        ParameterError: a part is missing, of the wrong type, or out of its range.
    """
    region = parameters.get(_REGION)
    if region is None:
        for name in (_OFFSET, _SIZE):
            if name in parameters:
                raise ParameterError(name, f"needs `{_REGION}` beside it", tensor)
        return None
    if not isinstance(region, str) or not region:
        raise ParameterError(_REGION, "must be a text, the name of a registered region", tensor)
    if _SIZE not in parameters:
        raise ParameterError(_SIZE, f"is missing beside `{_REGION}`", tensor)
    return Place(region, _bytes(parameters, _OFFSET, tensor), _bytes(parameters, _SIZE, tensor))


def _bytes(parameters: Mapping[str, Parameter], name: str, tensor: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ParameterError(name, f"must be a whole number from 0 to {_MOST}", tensor)
    return value
