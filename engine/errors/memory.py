"""What is wrong with a region of shared memory."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code

__all__ = [
    "RegionExistsError",
    "RegionInvalidError",
    "RegionNotFoundError",
    "SharedMemoryOffError",
    "TooManyRegionsError",
]


class SharedMemoryOffError(EngineError):
    """The operator takes no regions of shared memory."""

    code = Code.UNIMPLEMENTED
    reason = "SHARED_MEMORY_OFF"


class RegionInvalidError(EngineError):
    """A region of shared memory is not where or as large as it is said to be."""

    code = Code.INVALID_ARGUMENT
    reason = "SHARED_MEMORY_INVALID"


class RegionNotFoundError(EngineError):
    """The tenant has registered no region of that name."""

    code = Code.NOT_FOUND
    reason = "SHARED_MEMORY_NOT_FOUND"


class RegionExistsError(EngineError):
    """The tenant has registered a region of that name already."""

    code = Code.ALREADY_EXISTS
    reason = "SHARED_MEMORY_EXISTS"


class TooManyRegionsError(EngineError):
    """No more regions of shared memory are taken."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SHARED_MEMORY_EXHAUSTED"
