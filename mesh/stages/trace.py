"""Which trace a call belongs to (W3C Trace Context)."""

from __future__ import annotations

import re
import secrets

from mesh.call import Call

__all__ = ["TRACE_HEADER", "open_trace"]

TRACE_HEADER = "traceparent"
_FORM = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def open_trace(call: Call) -> None:
    """Take the trace's identifier from the request, or begin one; a malformed header counts as absent."""
    match = _FORM.fullmatch(call.metadata.get(TRACE_HEADER, ""))
    call.trace_id = match.group(1) if match and match.group(1).strip("0") else secrets.token_hex(16)
