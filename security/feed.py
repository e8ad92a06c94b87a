"""The policy feed: the newest snapshot, and word to everyone who waits for a newer one.

Who listens and how it travels is the policy servicer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mesh.db import Database, Transaction
from mesh.entry_store import EntryStore
from mesh.policy import Binding, Role, Snapshot
from security import entries
from security.ports import PolicyRows

__all__ = ["PolicyFeed"]


class PolicyFeed:
    """Makes snapshots of the directory.

    Args:
        database: security's own database.
        rows: its statements.
        policy: knows the policy's revision.
        jwks: the public keys of access tokens.
    """

    def __init__(self, database: Database, rows: EntryStore, policy: PolicyRows, jwks: Callable[[], str]) -> None:
        self._database = database
        self._rows = rows
        self._policy = policy
        self._jwks = jwks
        self._snapshot: Snapshot | None = None
        self._stale = True
        self._reading = asyncio.Lock()
        self._news = asyncio.Event()
        self.closed = False

    def changed(self) -> None:
        """Note that the directory has changed: wakes everyone who waits."""
        self._stale = True
        self._wake()

    def close(self) -> None:
        """Let everyone who waits go."""
        self.closed = True
        self._wake()

    async def snapshot(self) -> Snapshot:
        """The policy as it is now."""
        async with self._reading:
            if self._snapshot is None or self._stale:
                self._stale = False
                try:
                    self._snapshot = await self._database.read(self._read)
                except BaseException:
                    self._stale = True
                    raise
            return self._snapshot

    async def news(self, timeout_s: float) -> bool:
        """Wait for a change; false when there was none in time."""
        event = self._news
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        event, self._news = self._news, asyncio.Event()
        event.set()

    def _read(self, transaction: Transaction) -> Snapshot:
        rows = self._rows
        return Snapshot(
            revision=self._policy.policy_revision(transaction),
            jwks=self._jwks(),
            tenants=tuple(entry.name for entry in rows.every(transaction, entries.Tenant)),
            roles=tuple(Role(entry.name, entry.body.permissions) for entry in rows.every(transaction, entries.Role)),
            bindings=tuple(
                Binding(entry.name, entry.body.principal, entry.body.role, entry.body.resource)
                for entry in rows.every(transaction, entries.Binding)
            ),
            principals=tuple(
                entry.name for entry in rows.every(transaction, entries.Principal) if not entry.body.disabled
            ),
        )
