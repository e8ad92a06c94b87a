"""How code inside a worker says no.

Which error class the caller of the pool gets for a status is decided in `mesh.sandbox.errors`.
"""

from __future__ import annotations

from mesh.sandboxed.frames import Status

__all__ = ["MAX_MESSAGE", "Refusal", "capped"]

MAX_MESSAGE = 1000
"""The most characters of a tenant's own error message that are passed on."""


class Refusal(Exception):  # noqa: N818 -- it never leaves the worker as an exception
    """The answer to a call is a status other than OK, with the fields that the status names."""

    def __init__(self, status: Status, **fields: str | int) -> None:
        super().__init__(status.name)
        self.status = status
        self.fields = fields


def capped(message: str) -> str:
    """The message, cut when it is longer than `MAX_MESSAGE` characters."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
