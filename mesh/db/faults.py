"""What can go wrong with a database: which errors pass when one tries again, and how each is told.

SQLSTATEs are PostgreSQL's (appendix A of its manual); SQLite says what it has to say in words.
"""

from __future__ import annotations

from enum import Enum, auto

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from mesh.errors import Code, TiationError

__all__ = [
    "DatabaseBusyError",
    "DatabaseFullError",
    "DatabaseRefusedError",
    "DatabaseUnavailableError",
    "DatabaseUnreadableError",
    "Fault",
    "OutcomeUnknownError",
    "TextInvalidError",
    "fault_of",
    "said",
    "translated",
    "values_at_fault",
]

_LOST = {
    "25006",  # read only: the server that we speak to is no longer the primary
    "25P03",  # idle in transaction for too long: this process was stopped, or starved, in the middle
    "25P04",  # transaction_timeout
    "53300",  # too many connections
    "57P01",  # terminated by the administrator
    "57P02",  # crash of another process of the server
    "57P03",  # starting up or shutting down
    "57P05",  # idle session timeout
}
_CONFLICTS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock timeout
_FULL = {"53100"}
_NO_TEXT = {"22021", "22P05"}  # characters that the database cannot hold
_NO_SPACE = "no space is left under the state folder; free some, then try again"
_NO_ROOM = "no space is left on the database server's disk; free some there, then try again"


class DatabaseFullError(TiationError):
    """There is no room left on the database's disk; nothing of the write was kept."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"


class DatabaseBusyError(TiationError):
    """More writes wait than the service may hold."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "DATABASE_BUSY"


class DatabaseUnavailableError(TiationError):
    """The database does not answer.

    `metadata["outcome"]` is `none` where nothing of a write was kept, `unknown` where the database went away in the
    moment of the commit; the same request again is safe then as ever.
    """

    code = Code.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"


class DatabaseRefusedError(TiationError):
    """The database answers, but does not let the platform in, or is none that it can use."""

    code = Code.FAILED_PRECONDITION
    reason = "DATABASE_REFUSED"


class DatabaseUnreadableError(TiationError):
    """The database is damaged, or none of ours."""

    code = Code.DATA_LOSS
    reason = "DATABASE_UNREADABLE"


class TextInvalidError(TiationError):
    """A text holds a character that the database cannot keep: NUL."""

    code = Code.INVALID_ARGUMENT
    reason = "TEXT_INVALID"


class OutcomeUnknownError(Exception):
    """The connection was lost between the request to commit and its answer."""


class Fault(Enum):
    """What an error of the database means for whoever wants to go on."""

    LOST = auto()
    """The connection is gone or of no use; on a new one the same may succeed."""
    CONFLICT = auto()
    """Another transaction was in the way and has won; the same again may succeed at once."""
    FULL = auto()
    """The disk is full."""
    TEXT = auto()
    """A text cannot be kept."""
    OTHER = auto()
    """The statement itself is at fault."""


def fault_of(error: BaseException) -> Fault:
    """What kind of error it is; OTHER for all that are none of a database."""
    if not isinstance(error, DBAPIError):
        return Fault.OTHER
    if _is_sqlite(error):
        full = isinstance(error, OperationalError) and ("disk is full" in said(error) or "disk I/O" in said(error))
        return Fault.FULL if full else Fault.OTHER
    state = getattr(error.orig, "sqlstate", None)
    if state in _FULL:
        return Fault.FULL
    if state in _CONFLICTS:
        return Fault.CONFLICT
    if state in _NO_TEXT or (state is None and "NUL (0x00)" in said(error)):
        return Fault.TEXT
    without_answer = state is None and isinstance(error, OperationalError)
    if error.connection_invalidated or without_answer or state in _LOST or (state or "").startswith("08"):
        return Fault.LOST
    return Fault.OTHER


def translated(error: BaseException) -> BaseException:
    """The error as a caller is told of it; what is no fault of the database's stays what it is."""
    if isinstance(error, OutcomeUnknownError):
        return DatabaseUnavailableError(
            "the service's database went away before it said whether the change was kept; send the same request again",
            retry_after_s=1.0,
            outcome="unknown",
        )
    match fault_of(error):
        case Fault.FULL:
            return DatabaseFullError(_NO_SPACE if _is_sqlite(error) else _NO_ROOM, retry_after_s=5.0)
        case Fault.LOST | Fault.CONFLICT:
            return DatabaseUnavailableError(
                "the service's database does not answer; nothing was changed, try again",
                retry_after_s=1.0,
                outcome="none",
            )
        case Fault.TEXT:
            return TextInvalidError("a text of the request holds a NUL character, which cannot be kept; remove it")
    return error


def values_at_fault(error: BaseException) -> bool:
    """Whether a write failed for what it was to keep: without that the rest may be kept, with it nothing ever is."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, TextInvalidError) or not isinstance(error, TiationError | OSError | MemoryError)


def said(error: BaseException) -> str:
    """What the driver said, on one line, without our statement and its values."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return " ".join(text.split())


def _is_sqlite(error: BaseException) -> bool:
    return isinstance(error, SQLAlchemyError) and type(getattr(error, "orig", None)).__module__ == "sqlite3"
