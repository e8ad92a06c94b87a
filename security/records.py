"""Call records as security keeps them, and what may be asked of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

__all__ = ["RecordFilter", "RecordNews", "StoredRecord"]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with what it is looked up by.

    Attributes:
        uid: the call's identifier.
        tenant: the tenant that the call acted in, by its id.
        service: the service that served it.
        subject: on whose behalf.
        code: how it ended, a `google.rpc.Code`; 0 is success.
        receive_time: when security received it, UTC.
        record: the record itself, encoded.
        sequence: its place among all records; 0 before it is stored.
    """

    uid: str
    tenant: str
    service: str
    subject: str
    code: int
    receive_time: datetime
    record: bytes
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records are wanted; empty and None mean all."""

    service: str = ""
    code: int | None = None
    subject: str = ""


class RecordNews:
    """Word that records have come, for those who follow them."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.closed = False

    def tell(self) -> None:
        """Wake everyone who waits."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    def close(self) -> None:
        """Let everyone who waits go."""
        self.closed = True
        self.tell()

    def next(self) -> asyncio.Event:
        """Set once more records have come, or it is over; ask for it before looking."""
        return self._event

    @staticmethod
    async def wait(event: asyncio.Event, longest_s: float) -> None:
        """Wait for that, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await event.wait()
