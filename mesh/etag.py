"""Etags: how a caller is told that someone else was faster (AIP-154)."""

from __future__ import annotations

import hashlib

from mesh.errors import Code, TiationError

__all__ = ["StaleEtagError", "check_etag", "etag_of"]


class StaleEtagError(TiationError):
    """The resource has changed since the caller read it."""

    code = Code.ABORTED
    reason = "ETAG_STALE"


def etag_of(*values: object) -> str:
    """An etag that changes when any of the values does."""
    digest = hashlib.sha256("\x1f".join(str(value) for value in values).encode())
    return f'"{digest.hexdigest()[:16]}"'


def check_etag(sent: str, current: str, name: str) -> None:
    """Refuse a write whose etag is not the current one; an empty one is not checked.

    Raises:
        StaleEtagError: the etags differ.
    """
    if sent and sent != current:
        raise StaleEtagError(
            f"{name} has changed since you read it; get it again and repeat", resource=name, etag=current
        )
