"""Work that is done at once where it is little, and in a thread where other calls would wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["aside"]

P = ParamSpec("P")
T = TypeVar("T")

_HERE = 4096
"""About a millisecond; to wake a thread takes a twentieth of that."""


async def aside(size: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do some work, here or in a thread.

    Args:
        size: how much it is, in values: numbers or elements of BYTES to take apart or put together, characters of
            texts to make tokens of. 1 KiB that is merely copied counts as one.
        work: what to call.
        arguments: for it.
        named: as above.
    """
    if size <= _HERE:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)
