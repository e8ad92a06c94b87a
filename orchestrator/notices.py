"""Word that a run's journal has grown, in this process or another one, for those who stream it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Notices"]


class Notices:
    """Wakes listeners; who misses one looks again by himself after a while."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self.closed = False

    @contextmanager
    def listen(self, run: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the run's journal grows; clear it before looking."""
        event = asyncio.Event()
        self._listeners.setdefault(run, set()).add(event)
        try:
            yield event
        finally:
            self._listeners[run].discard(event)
            if not self._listeners[run]:
                del self._listeners[run]

    def tell(self, run: str) -> None:
        """Say that a run's journal has grown."""
        for event in self._listeners.get(run, ()):
            event.set()

    def hear(self, run: str | None) -> None:
        """Hear from another process that a run's journal has grown; None when it may be any."""
        for each in [run] if run is not None else list(self._listeners):
            self.tell(each)

    def close(self) -> None:
        """Wake everyone for good: the service is about to stop."""
        self.closed = True
        for events in self._listeners.values():
            for event in events:
                event.set()
