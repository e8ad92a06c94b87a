"""What an HTTP reader may keep: an ETag of the answer, so that asking again costs nothing while it is the same.

The front proxy compares it with the reader's `If-None-Match`; callers who speak gRPC get nothing of this.
"""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from mesh.call import Call

__all__ = ["caching_headers"]

_REST_METHOD = "x-envoy-original-method"
"""Set by the front proxy on a request that it has turned from REST into gRPC."""


def caching_headers(call: Call, answer: Message) -> tuple[tuple[str, str], ...]:
    """Headers for a REST reader; none for everybody else."""
    if call.metadata.get(_REST_METHOD) != "GET":
        return ()
    digest = hashlib.sha256(answer.SerializeToString(deterministic=True)).hexdigest()[:32]
    return (
        ("etag", f'W/"{digest}"'),
        ("cache-control", "private, no-cache"),
        ("vary", "authorization"),
    )
