"""The pools of child processes in which tenants' programs, decision graphs and templates run and images are decoded.

What runs inside these processes is `mesh.sandboxed`; no tenant's code is ever evaluated on this side.
"""

from __future__ import annotations

from mesh.sandbox.errors import (
    DecisionForbiddenNodeError,
    DecisionInvalidError,
    DecisionRuntimeError,
    ImageInvalidError,
    JqForbiddenError,
    JqOutputsError,
    JqRuntimeError,
    JqSyntaxError,
    SandboxBusyError,
    SandboxCrashedError,
    SandboxDeadlineError,
    SandboxError,
    SandboxInputError,
    SandboxMemoryError,
    SandboxOutputTooLargeError,
    SandboxUnavailableError,
    TemplateInvalidError,
)
from mesh.sandbox.images import MAX_OUTPUT_BYTES, Decoded, Fit, ImagePool, Invert, Wanted
from mesh.sandbox.pool import DecisionResult, Json, SandboxPool

__all__ = [
    "MAX_OUTPUT_BYTES",
    "DecisionForbiddenNodeError",
    "DecisionInvalidError",
    "DecisionResult",
    "DecisionRuntimeError",
    "Decoded",
    "Fit",
    "ImageInvalidError",
    "ImagePool",
    "Invert",
    "JqForbiddenError",
    "JqOutputsError",
    "JqRuntimeError",
    "JqSyntaxError",
    "Json",
    "SandboxBusyError",
    "SandboxCrashedError",
    "SandboxDeadlineError",
    "SandboxError",
    "SandboxInputError",
    "SandboxMemoryError",
    "SandboxOutputTooLargeError",
    "SandboxPool",
    "SandboxUnavailableError",
    "TemplateInvalidError",
    "Wanted",
]
