"""Access tokens of other systems: sealed at rest, renewed by one process at a time, never twice.

The right to renew is a guarded update of the token's row: whoever gets it asks the token endpoint, all others wait for
the row to change. Whoever dies holding it loses it after a while. How a token endpoint is asked is the caller's.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from integration.errors import IntegrationError, SystemUnavailableError
from integration.ports import KeptToken, Target, TokenRows
from integration.vault import Vault
from mesh.db import Database
from mesh.resource import tenant_of

__all__ = ["FreshToken", "Token", "TokenKeeper"]

_LEEWAY_S = 30.0
_LEEWAY_SHARE = 0.2
_HELD_S = 20.0
_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5
_MAX_KEPT = 1024


@dataclass(frozen=True, slots=True)
class FreshToken:
    """What a token endpoint answered: the token, and for how many seconds it holds."""

    text: str
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Token:
    """A token in the clear, and which version of the row it is."""

    text: str
    version: int


class TokenKeeper:
    """Keeps one token a connection.

    Args:
        database: the service's own.
        rows: its statements.
        vault: seals tokens.
        now: seconds since 1970.
    """

    def __init__(self, database: Database, rows: TokenRows, vault: Vault, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._rows = rows
        self._vault = vault
        self._now = now
        self._renewing: dict[str, asyncio.Lock] = {}

    async def token(
        self, target: Target, renew: Callable[[], Awaitable[FreshToken]], *, rejected: int | None = None
    ) -> Token:
        """A token that holds.

        Args:
            target: for which system.
            renew: asks its token endpoint.
            rejected: the version that the system has just refused, however long it should still hold.

        Raises:
            SystemUnavailableError: another process is renewing it and does not come to an end.
            IntegrationError: as `renew` raises, unless another process got a token meanwhile.
        """
        key = _key(target)
        kept = await self._database.read(lambda transaction: self._rows.token(transaction, key))
        if kept is not None and self._holds(kept, rejected):
            return self._opened(target, kept)
        async with self._lock(key):
            return await self._renewed(target, key, renew, rejected)

    async def _renewed(
        self, target: Target, key: str, renew: Callable[[], Awaitable[FreshToken]], rejected: int | None
    ) -> Token:
        """Renew the token, or wait for whoever does."""
        holder = uuid.uuid4().hex
        pause_s, patience = _FIRST_LOOK_S, self._now() + 2 * _HELD_S
        while self._now() < patience:
            kept = await self._database.read(lambda transaction: self._rows.token(transaction, key))
            if kept is not None and self._holds(kept, rejected):
                return self._opened(target, kept)
            now, version = self._now(), kept.version if kept is not None else 0
            if kept is None or kept.held_until <= now:
                claim = partial(
                    self._rows.claim_token, target=key, version=version, holder=holder, now=now, until=now + _HELD_S
                )
                if await self._database.write(claim, durable=False):
                    return await self._fetched(target, key, holder, version, renew)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_LOOK_S)
        raise SystemUnavailableError(f"the access token of {target.name} is being renewed elsewhere, without an end")

    async def _fetched(
        self, target: Target, key: str, holder: str, version: int, renew: Callable[[], Awaitable[FreshToken]]
    ) -> Token:
        """Ask the token endpoint, having the right to; what it refuses may be because somebody else was there."""
        try:
            async with asyncio.timeout(_HELD_S * 0.9):
                fresh = await renew()
        except BaseException as error:  # whatever ended it, the right to ask is given back
            await self._database.write(partial(self._rows.release_token, target=key, holder=holder), durable=False)
            kept = await self._database.read(lambda transaction: self._rows.token(transaction, key))
            if isinstance(error, IntegrationError) and kept and kept.version > version and self._holds(kept, None):
                return self._opened(target, kept)
            if isinstance(error, TimeoutError):
                raise SystemUnavailableError(f"the token endpoint of {target.name} did not answer in time") from None
            raise
        now = self._now()
        sealed = self._vault.seal(tenant_of(target.name), _place(target), {"access_token": fresh.text})
        expires = now + fresh.lifetime_s - min(_LEEWAY_S, fresh.lifetime_s * _LEEWAY_SHARE)
        keep = partial(self._rows.keep_token, target=key, holder=holder, sealed=sealed, expires=expires, now=now)
        await self._database.write(keep, durable=False)
        return Token(fresh.text, version + 1)

    def _holds(self, kept: KeptToken, rejected: int | None) -> bool:
        return bool(kept.sealed) and kept.expires > self._now() and (rejected is None or kept.version > rejected)

    def _opened(self, target: Target, kept: KeptToken) -> Token:
        opened = self._vault.open(tenant_of(target.name), _place(target), kept.sealed)
        return Token(opened["access_token"], kept.version)

    def _lock(self, key: str) -> asyncio.Lock:
        """One in this process waits for the others, instead of all of them."""
        lock = self._renewing.get(key)
        if lock is None:
            if len(self._renewing) >= _MAX_KEPT:
                self._renewing = {kept: each for kept, each in self._renewing.items() if each.locked()}
            lock = self._renewing[key] = asyncio.Lock()
        return lock


def _key(target: Target) -> str:
    """A changed connection may be another client: its token is another one."""
    return f"{target.uid or target.name}/{target.revision}"


def _place(target: Target) -> str:
    return f"{target.name}#access_token"
