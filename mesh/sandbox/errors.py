"""What can go wrong in the sandbox, one class per cause.

Where each is noticed is elsewhere: inside the worker (`mesh.sandboxed.refusal`), at its end (`mesh.sandbox.worker`) or
before it is asked (`mesh.sandbox.pool`, `mesh.sandbox.graphs`).

A program or graph that is wrong, or does not fit its input, is INVALID_ARGUMENT. One that breaks its limits is
FAILED_PRECONDITION, not DEADLINE_EXCEEDED or RESOURCE_EXHAUSTED: the same call again would only break them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.errors import Code, TiationError
from mesh.sandboxed.frames import Status

__all__ = [
    "DecisionForbiddenNodeError",
    "DecisionInvalidError",
    "DecisionRuntimeError",
    "ImageInvalidError",
    "JqForbiddenError",
    "JqOutputsError",
    "JqRuntimeError",
    "JqSyntaxError",
    "SandboxBusyError",
    "SandboxCrashedError",
    "SandboxDeadlineError",
    "SandboxError",
    "SandboxInputError",
    "SandboxMemoryError",
    "SandboxOutputTooLargeError",
    "SandboxUnavailableError",
    "TemplateInvalidError",
    "refused",
]


class SandboxError(TiationError):
    """The base of everything that the sandbox raises."""


class JqSyntaxError(SandboxError):
    """A jq program does not compile.

    Attributes:
        line: where, from 1.
        column: where in that line, from 1, in characters.
    """

    code = Code.INVALID_ARGUMENT
    reason = "JQ_SYNTAX"

    def __init__(self, message: str, *, line: int, column: int, **metadata: Any) -> None:  # noqa: ANN401 -- as the base takes them
        super().__init__(f"jq program, line {line}, column {column}: {message}", line=line, column=column, **metadata)
        self.line = line
        self.column = column


class JqForbiddenError(JqSyntaxError):
    """A jq program uses a builtin that would reach outside of it, or a directive that would read a file."""

    reason = "JQ_FORBIDDEN"

    def __init__(self, name: str, *, line: int, column: int) -> None:
        super().__init__(
            f"{name} is not available: a program sees its input and its variables only",
            line=line,
            column=column,
            name=name,
        )


class JqRuntimeError(SandboxError):
    """A jq program failed on this input; the message is the program's own."""

    code = Code.INVALID_ARGUMENT
    reason = "JQ_RUNTIME"


class JqOutputsError(SandboxError):
    """A jq program has more than one output where one value is wanted."""

    code = Code.INVALID_ARGUMENT
    reason = "JQ_SEVERAL_OUTPUTS"


class DecisionInvalidError(SandboxError):
    """A decision graph is not well formed, or one of its expressions is not.

    Attributes:
        node: the id of the node at fault, empty when it is the graph as a whole.
    """

    code = Code.INVALID_ARGUMENT
    reason = "DECISION_INVALID"

    def __init__(self, message: str, *, node: str = "", **metadata: Any) -> None:  # noqa: ANN401 -- as the base takes them
        where = f"decision, node {node!r}: " if node else "decision: "
        super().__init__(where + message, node=node, **metadata)
        self.node = node


class DecisionForbiddenNodeError(DecisionInvalidError):
    """A decision graph holds a node that runs code or leaves the graph."""

    reason = "DECISION_FORBIDDEN_NODE"


class DecisionRuntimeError(SandboxError):
    """A decision failed on this input.

    Attributes:
        node: the id of the node that failed, empty when unknown.
    """

    code = Code.INVALID_ARGUMENT
    reason = "DECISION_RUNTIME"

    def __init__(self, message: str, *, node: str = "") -> None:
        super().__init__(f"decision, node {node!r}: {message}" if node else f"decision: {message}", node=node)
        self.node = node


class ImageInvalidError(SandboxError):
    """A file is no image that is read, is damaged, or is larger than allowed."""

    code = Code.INVALID_ARGUMENT
    reason = "IMAGE_INVALID"


class TemplateInvalidError(SandboxError):
    """A template does not compile, or refuses or fails on what it was given; the message is its own."""

    code = Code.INVALID_ARGUMENT
    reason = "TEMPLATE_INVALID"


class SandboxInputError(SandboxError):
    """What is handed to the sandbox is no JSON, too large, nested too deeply, or badly named."""

    code = Code.INVALID_ARGUMENT
    reason = "SANDBOX_INPUT_INVALID"


class SandboxDeadlineError(SandboxError):
    """The program ran for too long and was killed."""

    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_DEADLINE"


class SandboxMemoryError(SandboxError):
    """The program wanted more memory than it may have and was killed."""

    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_MEMORY"


class SandboxCrashedError(SandboxError):
    """The program ended its process, by recursing too deeply most of the time."""

    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_CRASHED"


class SandboxOutputTooLargeError(SandboxError):
    """The program's output is larger, or nested deeper, than an output may be."""

    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_OUTPUT_TOO_LARGE"


class SandboxBusyError(SandboxError):
    """Too many calls wait already, or this one waited too long for its turn."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SANDBOX_BUSY"


class SandboxUnavailableError(SandboxError):
    """No worker can be had: the pool is closed, or its processes cannot be started or keep being killed."""

    code = Code.UNAVAILABLE
    reason = "SANDBOX_UNAVAILABLE"


def refused(status: Status, fields: Mapping[str, Any]) -> SandboxError:  # noqa: C901 -- one line a status
    """The error for a worker's answer other than OK; `fields` are as the status says."""
    match status:
        case Status.JQ_SYNTAX:
            return JqSyntaxError(fields["message"], line=fields["line"], column=fields["column"])
        case Status.JQ_FORBIDDEN:
            return JqForbiddenError(fields["name"], line=fields["line"], column=fields["column"])
        case Status.JQ_RUNTIME:
            return JqRuntimeError(fields["message"])
        case Status.JQ_SEVERAL:
            return JqOutputsError("the program has several outputs; write [ … ] around it for a list, or first( … )")
        case Status.DECISION_INVALID:
            return DecisionInvalidError(fields["message"], node=fields["node"])
        case Status.DECISION_RUNTIME:
            return DecisionRuntimeError(fields["message"], node=fields["node"])
        case Status.IMAGE_INVALID:
            return ImageInvalidError(fields["message"])
        case Status.TEMPLATE_INVALID:
            return TemplateInvalidError(fields["message"])
        case Status.TOO_LARGE:
            size = fields["bytes"]
            return SandboxOutputTooLargeError(f"the output of {size} bytes is too large", bytes=size)
        case Status.TOO_DEEP:
            return SandboxOutputTooLargeError("the output is nested too deeply")
        case _:
            return SandboxCrashedError(f"the worker answered {status.name}, which is no answer")
