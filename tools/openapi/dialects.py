"""What OpenAPI says of REST paths in another protocol's words: bodies are its own JSON, and so are its errors.

What such a body holds stands in that protocol's documentation, not in a contract of ours.
"""

from __future__ import annotations

from typing import Any

__all__ = ["answers", "body", "error"]

Schema = dict[str, Any]

OPEN_INFERENCE, OPENAI = 1, 2  # tiation.mesh.v1.Dialect
_OBJECT: Schema = {"schema": {"type": "object"}}
_BYTES: Schema = {"schema": {"type": "string", "format": "binary"}}
_ERRORS: dict[int, Schema] = {
    OPEN_INFERENCE: {"type": "string"},
    OPENAI: {
        "type": "object",
        "required": ["message", "type"],
        "properties": {
            "message": {"type": "string"},
            "type": {"type": "string"},
            "param": {"type": "string", "nullable": True},
            "code": {"type": "string", "nullable": True},
        },
    },
}


def body(dialect: int) -> Schema:
    """What a request's body may be, by media type: JSON, or JSON with tensors behind it."""
    content: Schema = {"application/json": _OBJECT}
    return {**content, "application/octet-stream": _BYTES} if dialect == OPEN_INFERENCE else content


def answers(dialect: int, *, streams: bool) -> Schema:
    """What an answer's body may be, by media type."""
    return {**body(dialect), "text/event-stream": {"schema": {"type": "string"}}} if streams else body(dialect)


def error(dialect: int) -> Schema:
    """What an error looks like."""
    return {"type": "object", "required": ["error"], "properties": {"error": _ERRORS[dialect]}}
