"""The base of every error that reaches a caller, and the codes they carry.

How an error becomes a `google.rpc.Status` on the wire lives in `mesh.status`, not here: cores raise these
without knowing any transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

__all__ = ["Code", "FieldViolation", "InvalidError", "QuotaViolation", "TiationError"]


class Code(IntEnum):
    """The canonical codes of `google.rpc.Code`, by number."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong: its path in the request (`agent.flow`) and what to do about it."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A limit that is used up: whose it is, and what it allows."""

    subject: str
    description: str


class TiationError(Exception):
    """An error with one cause, safe to show to the caller.

    A subclass names its cause with `code` and `reason`; whatever varies goes into `metadata` as text, so that
    programs need not parse the message.

    Args:
        message: what went wrong and what to do about it.
        violations: fields of the request that caused it.
        retry_after_s: seconds after which a retry may succeed; None when a retry alone does not help.
        quota: limits that it used up.
        metadata: the dynamic parts of the message.
    """

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    domain: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        quota: tuple[QuotaViolation, ...] = (),
        **metadata: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.quota = quota
        self.metadata = {key: str(value) for key, value in metadata.items()}


class InvalidError(TiationError):
    """A request that can never succeed as it is; it names the field."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, field: str, message: str, **metadata: object) -> None:
        super().__init__(
            f"{field}: {message}",
            violations=(FieldViolation(field, message),),
            retry_after_s=None,
            quota=(),
            **metadata,
        )
