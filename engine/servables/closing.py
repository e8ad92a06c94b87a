"""What holds memory and threads is given back where the model that it is for comes to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["closed_on_failure"]


class _Closable(Protocol):
    def close(self) -> None:
        """Give back what it holds. Blocks."""


@contextmanager
def closed_on_failure(held: _Closable) -> Iterator[None]:
    """Close it where what is done meanwhile fails, whatever ends it; the error goes on."""
    try:
        yield
    except BaseException:  # an interruption, too, leaves nothing in memory
        held.close()
        raise
