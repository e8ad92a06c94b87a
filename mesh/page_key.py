"""The key that signs a service's page tokens: made once, kept in its database, the same for all its processes."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection

from mesh.db import Database
from mesh.entries import Entry
from mesh.entry_store import EntryStore

__all__ = ["page_key"]

_NAME = "keys/pages"


class PageKey(msgspec.Struct, frozen=True):
    """The key, in hexadecimal."""

    secret: str


async def page_key(database: Database) -> bytes:
    """The key; made when there is none."""

    def work(connection: Connection) -> bytes:
        rows = EntryStore()
        entry = rows.get(connection, PageKey, _NAME)
        if entry is None:
            now = datetime.now(UTC)
            entry = Entry(_NAME, str(uuid.uuid4()), 1, now, now, PageKey(os.urandom(32).hex()))
            rows.add(connection, entry)
        return bytes.fromhex(entry.body.secret)

    return await database.write(work)
