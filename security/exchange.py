"""The exchange of an API key for an access token: a key that holds, a principal that may act, a tenant that exists."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mesh.catalogue import NotFoundError
from mesh.errors import InvalidError
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from security.api_keys import Pepper, parse_key
from security.directory import Directory
from security.entries import ApiKey, Principal, Role, Tenant
from security.errors import ApiKeyInvalidError
from security.signing import SigningKey

__all__ = ["ApiKeyExchange", "IssuedToken"]

_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, when it ends, and who it speaks for."""

    token: str
    expire_time: datetime
    subject: str


class ApiKeyExchange:
    """Issues tokens.

    Args:
        directory: knows keys and principals.
        signing: signs tokens.
        pepper: turns keys into what is kept of them.
        now: the wall clock, UTC.
    """

    def __init__(
        self,
        directory: Directory,
        signing: SigningKey,
        pepper: Pepper,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._directory = directory
        self._signing = signing
        self._pepper = pepper
        self._now = now

    async def exchange(self, text: str, *, tenant: str, role: str, ttl_s: float) -> IssuedToken:
        """A token for the key's principal.

        Args:
            text: the key.
            tenant: the id of the tenant to act in.
            role: at most what this role allows, by its id; empty for no such limit.
            ttl_s: how long it holds.

        Raises:
            ApiKeyInvalidError: the key does not hold, for whatever reason.
            InvalidError: there is no such role.
        """
        key = parse_key(text)
        if key is None or key.tenant not in (tenant, SYSTEM_TENANT):
            raise ApiKeyInvalidError
        now = self._now()
        try:
            entry = await self._directory.get(ApiKey, f"{PLATFORM}/{key.tenant}/apiKeys/{key.key_id}")
            if not self._pepper.matches(key, entry.body.digest):
                raise ApiKeyInvalidError
            if entry.body.expire_time is not None and entry.body.expire_time <= now:
                raise ApiKeyInvalidError
            principal = await self._directory.get(Principal, entry.body.principal)
            await self._directory.get(Tenant, f"{PLATFORM}/{tenant}")
        except NotFoundError:
            raise ApiKeyInvalidError from None
        if principal.body.disabled:
            raise ApiKeyInvalidError
        if role:
            await self._check_role(role, tenant)
        last = min(now + timedelta(seconds=ttl_s), entry.body.expire_time or _FOR_EVER)  # no token outlives its key
        begin, end = int(now.timestamp()), int(last.timestamp())
        token = self._signing.token(
            tenant=tenant,
            subject=principal.name,
            role=role,
            token_id=str(uuid.uuid4()),
            begin=begin,
            end=end,
            issued=now.timestamp(),
            uid=principal.uid,
            key=entry.uid,
        )
        return IssuedToken(token, datetime.fromtimestamp(end, UTC), principal.name)

    async def _check_role(self, role: str, tenant: str) -> None:
        for owner in (tenant, SYSTEM_TENANT):
            try:
                await self._directory.get(Role, f"{PLATFORM}/{owner}/roles/{role}")
            except NotFoundError:
                continue
            return
        raise InvalidError("role", f"there is no role `{role}`; list the roles with ListRoles")
