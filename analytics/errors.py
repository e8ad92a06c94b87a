"""What can go wrong in analytics, one class per cause."""

from __future__ import annotations

from mesh.errors import Code, TiationError

__all__ = [
    "AnalyticsError",
    "CursorMovedError",
    "ExportFailedError",
    "ExportsBusyError",
    "FeedBrokenError",
    "QueryTooLargeError",
    "ShuttingDownError",
]


class AnalyticsError(TiationError):
    """The base of everything that analytics raises."""

    domain = "analytics.tiation.dev"


class QueryTooLargeError(AnalyticsError):
    """A query would read or return more than one query may."""

    code = Code.INVALID_ARGUMENT
    reason = "QUERY_TOO_LARGE"


class ExportsBusyError(AnalyticsError):
    """As many files are being written as may be at once."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "EXPORTS_BUSY"


class ExportFailedError(AnalyticsError):
    """A file could not be written."""

    code = Code.INTERNAL
    reason = "EXPORT_FAILED"


class ShuttingDownError(AnalyticsError):
    """The service stops; whoever listens goes on elsewhere."""

    code = Code.UNAVAILABLE
    reason = "SHUTTING_DOWN"


class CursorMovedError(AnalyticsError):
    """Somebody else has counted the same records meanwhile; nothing of this was kept."""

    code = Code.ABORTED
    reason = "CURSOR_MOVED"


class FeedBrokenError(AnalyticsError):
    """Security does not hand out records now."""

    code = Code.UNAVAILABLE
    reason = "FEED_BROKEN"
