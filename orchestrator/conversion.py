"""Where values are converted between JSON and messages: on the loop, or in a thread where that takes long.

How they are converted is `mesh.json_value`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

__all__ = ["LARGE_BYTES", "bytes_of", "converted"]

LARGE_BYTES = 16 * 1024
"""A list of digits of so many bytes takes 10 ms, in which the loop would carry no other call."""

T = TypeVar("T")


async def converted(size: int, convert: Callable[[], T]) -> T:
    """What a conversion makes.

    Args:
        size: bytes of what is converted.
        convert: converts it; it must not touch what belongs to the loop.
    """
    return convert() if size <= LARGE_BYTES else await asyncio.to_thread(convert)


def bytes_of(value: Any) -> int:  # noqa: ANN401 -- any JSON
    """Bytes of some JSON, which are counted a hundred times faster than they are converted."""
    return len(msgspec.json.encode(value))
