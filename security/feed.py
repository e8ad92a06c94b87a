"""The policy feed: the newest policy, what turned each revision into the next, and word to everyone who waits for news.

Who listens and how it travels is the policy servicer's; what goes into the policy is `security.contents`'.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from mesh.db import Database, Transaction
from mesh.entry_store import EntryStore
from mesh.policy import Policy
from mesh.snapshot import Delta, Snapshot
from security.contents import read_all, read_changes
from security.ports import PolicyRows

__all__ = ["PolicyFeed"]

_KEPT_DELTAS = 1000


class PolicyFeed:
    """Follows the directory.

    Args:
        database: security's own database.
        rows: its statements.
        policy: knows the policy's revision and its changes.
        jwks: the public keys of access tokens.
    """

    def __init__(self, database: Database, rows: EntryStore, policy: PolicyRows, jwks: Callable[[], str]) -> None:
        self._database = database
        self._rows = rows
        self._changes = policy
        self._jwks = jwks
        self._policy: Policy | None = None
        self._deltas: OrderedDict[int, Delta] = OrderedDict()
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

    async def policy(self) -> Policy:
        """The policy as it is now."""
        async with self._reading:
            if self._policy is None or self._stale:
                self._stale = False
                try:
                    await self._follow()
                except BaseException:  # cancelled in the middle, too, what was read is not whole
                    self._stale = True
                    raise
            assert self._policy is not None  # noqa: S101 -- it has just been read
            return self._policy

    def deltas_since(self, revision: int) -> list[Delta] | None:
        """What turns a revision into the one that is held, oldest first; None where that is not known any more."""
        assert self._policy is not None  # noqa: S101 -- asked for after `policy`
        found = []
        while revision != self._policy.revision:
            delta = self._deltas.get(revision)
            if delta is None:
                return None
            found.append(delta)
            revision = delta.changed.revision
        return found

    def news(self) -> asyncio.Event:
        """Set with the next change. Ask for it before reading the policy, or a change in between goes unheard."""
        return self._news

    async def _follow(self) -> None:
        """Read what has changed since the policy that is held, or all of it."""
        held = self._policy
        if held is not None:
            base = held.revision
            delta = await self._database.read(
                lambda transaction: read_changes(transaction, self._rows, self._changes, base)
            )
            if delta is not None:
                if delta.changed.revision != base:
                    held.apply(delta)
                    self._deltas[base] = delta
                    if len(self._deltas) > _KEPT_DELTAS:
                        self._deltas.popitem(last=False)
                return
        self._policy = Policy(await self._database.read(self._read))

    def _read(self, transaction: Transaction) -> Snapshot:
        return read_all(transaction, self._rows, self._changes, self._jwks())

    def _wake(self) -> None:
        event, self._news = self._news, asyncio.Event()
        event.set()
