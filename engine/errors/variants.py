"""What keeps a version from being made smaller."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code

__all__ = ["VariantCrashedError", "VariantImpossibleError", "VariantTimeoutError", "VariantsBusyError"]


class VariantImpossibleError(EngineError):
    """Of this model there is no such variant."""

    code = Code.FAILED_PRECONDITION
    reason = "VARIANT_IMPOSSIBLE"


class VariantsBusyError(EngineError):
    """So many variants are being made that no more may wait."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "VARIANTS_BUSY"


class VariantTimeoutError(EngineError):
    """Making a variant takes too long."""

    code = Code.DEADLINE_EXCEEDED
    reason = "VARIANT_TIMEOUT"


class VariantCrashedError(EngineError):
    """The process that makes a variant was ended."""

    code = Code.FAILED_PRECONDITION
    reason = "VARIANT_CRASHED"
