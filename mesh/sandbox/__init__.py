"""The pool of child processes in which tenants' jq programs and decision graphs run.

What runs inside these processes is `mesh.sandboxed`; no tenant's code is ever evaluated on this side.
"""

from __future__ import annotations

from mesh.sandbox.errors import (
    DecisionForbiddenNodeError,
    DecisionInvalidError,
    DecisionRuntimeError,
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
)
from mesh.sandbox.pool import DecisionResult, Json, SandboxPool

__all__ = [
    "DecisionForbiddenNodeError",
    "DecisionInvalidError",
    "DecisionResult",
    "DecisionRuntimeError",
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
]
