"""Identifiers of calls."""

from __future__ import annotations

import os
import time

__all__ = ["uuid7"]


def uuid7(now_ns: int | None = None) -> str:
    """A UUIDv7 (RFC 9562): identifiers that sort by time. `now_ns`: nanoseconds since the epoch, of now if left out."""
    millis = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    value = (millis << 80) | (0x7 << 76) | (int.from_bytes(os.urandom(10), "big") & ((1 << 76) - 1))
    text = f"{(value & ~(0x3 << 62)) | (0x2 << 62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
