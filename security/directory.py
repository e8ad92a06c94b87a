"""The directory: tenants, principals, groups, API keys, roles and bindings, and the rules between them.

What they add up to is `security.contents`; who may give what to whom is `security.grants`.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from mesh.catalogue import Catalogue
from mesh.db import Database, Transaction
from mesh.entries import Body, Creation, Entry
from mesh.entry_store import EntryStore
from mesh.identity import current_caller
from mesh.policy import TOKEN_LIFE_S, Policy
from mesh.resource import tenant_of
from security import rules
from security.changes import REVOCATION, Change
from security.entries import ApiKey, Binding, Group, Principal, Role, Tenant
from security.errors import BuiltInError
from security.grants import Grantor
from security.permissions import PermissionBook
from security.ports import PolicyRows

__all__ = ["Directory", "Feed"]

_IN_POLICY = (Tenant, Principal, Group, Binding, Role)


@dataclass(frozen=True, slots=True)
class Feed:
    """What the directory asks of the policy feed.

    Attributes:
        changed: told after every change that the policy has to follow.
        policy: the policy as it is now.
    """

    changed: Callable[[], None]
    policy: Callable[[], Awaitable[Policy]]


class Directory(Catalogue):
    """Keeps the directory.

    Args:
        database: security's own database.
        rows: its statements.
        policy: counts the policy's changes.
        feed: follows them.
        book: knows the permissions that exist.
        now: the wall clock, UTC.
    """

    def __init__(
        self,
        database: Database,
        rows: EntryStore,
        policy: PolicyRows,
        feed: Feed,
        book: PermissionBook,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(database, rows, now)
        self._policy = policy
        self._feed = feed
        self._book = book
        self._grantor: Grantor | None = None

    async def create(
        self, name: str, body: Body, labels: Mapping[str, str], creation: Creation, *, validate_only: bool = False
    ) -> Entry[Body]:
        """As `Catalogue.create`, by the current caller, who gives away only what they have."""
        bound = await self._by_caller()
        return await Catalogue.create(bound, name, body, labels, creation, validate_only=validate_only)

    async def update(
        self,
        kind: type[Body],
        name: str,
        etag: str,
        change: Callable[[Entry[Body]], Entry[Body]],
        *,
        validate_only: bool = False,
    ) -> Entry[Body]:
        """As `Catalogue.update`, by the current caller, who gives away only what they have."""
        bound = await self._by_caller()
        return await Catalogue.update(
            bound, kind, name, etag, lambda entry: self._followed(entry, change(entry)), validate_only=validate_only
        )

    async def delete(self, kind: type[Body], name: str, etag: str, *, forever: bool = False) -> None:
        """As `Catalogue.delete`, by the current caller, who lifts only denials of what they have."""
        await Catalogue.delete(await self._by_caller(), kind, name, etag, forever=forever)

    async def change_members(self, group: str, change: Callable[[set[str]], Iterable[str]]) -> Entry[Group]:
        """Change who belongs to a group, from whatever it is now."""

        def changed(entry: Entry[Group]) -> Entry[Group]:
            members = tuple(sorted(change(set(entry.body.members))))
            return replace(entry, body=msgspec.structs.replace(entry.body, members=members))

        return await self.update(Group, group, "", changed)

    def check(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Refuse what refers to something that is not there, and what gives away too much."""
        assert self._grantor is not None  # noqa: S101 -- only `create` and `update` come here
        body, world = entry.body, rules.World(transaction, self._rows, self._grantor, self._now())
        if isinstance(body, Tenant):
            rules.check_tenant(world, entry)
        elif isinstance(body, Principal):
            rules.check_principal(world, entry)
        elif isinstance(body, Group):
            rules.check_group(world, entry)
        elif isinstance(body, ApiKey):
            rules.check_key(world, entry)
        elif isinstance(body, Role):
            for pattern in body.permissions:
                self._book.check_pattern(pattern, "role.permissions")
            rules.check_role(world, entry)
        elif isinstance(body, Binding):
            rules.check_binding(world, entry)

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Count a change of the policy, and of what an API key's tokens are worth."""
        self._count(transaction, entry)
        if isinstance(entry.body, ApiKey) and entry.revision > 1:
            self._revoke(transaction, entry, entry.body.expire_time)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Keep what ships with the platform; delete what cannot be without what goes."""
        assert self._grantor is not None  # noqa: S101 -- only `delete` comes here
        body, world = entry.body, rules.World(transaction, self._rows, self._grantor, self._now())
        if entry.name in rules.BUILT_IN:
            raise BuiltInError(entry.name)
        if isinstance(body, Role):
            rules.check_role_unused(world, entry)
        elif isinstance(body, Binding):
            rules.check_unbinding(world, entry)
        elif isinstance(body, Group):
            rules.check_group_going(world, entry)
        elif isinstance(body, ApiKey):
            self._revoke(transaction, entry, self._now())
        if isinstance(body, (Principal, Group)):
            self._bury_belongings(transaction, entry.name)
        self._count(transaction, entry)

    def committed(self, kind: type) -> None:
        """Tell those who make the policy."""
        if issubclass(kind, (*_IN_POLICY, ApiKey)):
            self._feed.changed()

    async def _by_caller(self) -> Directory:
        """The directory in the hands of the current caller."""
        bound = copy.copy(self)
        bound._grantor = Grantor(current_caller(), await self._feed.policy())  # noqa: SLF001 -- of its own class
        return bound

    def _followed(self, before: Entry[Body], after: Entry[Body]) -> Entry[Body]:
        """A change with what follows from it: whoever is disabled loses the tokens that were issued."""
        was, body = before.body, after.body
        if isinstance(was, Principal) and isinstance(body, Principal) and body.disabled and not was.disabled:
            return replace(after, body=msgspec.structs.replace(body, revoke_time=self._now()))
        return after

    def _count(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Count a change of the policy, if the entry is part of it."""
        if isinstance(entry.body, _IN_POLICY):
            self._policy.new_policy_revision(transaction, Change(type(entry.body).__name__, entry.name))

    def _revoke(self, transaction: Transaction, key: Entry[ApiKey], end: datetime | None) -> None:
        """Refuse the tokens of a key from its new end on; where no token lives so long there is nothing to refuse."""
        now = self._now().timestamp()
        ends = end is not None and end.timestamp() < now + TOKEN_LIFE_S
        at = max(end.timestamp(), now) if end is not None and ends else 0.0
        if at or self._policy.revocation(transaction, key.uid):
            self._policy.revoke(transaction, key.uid, at)
            self._policy.new_policy_revision(transaction, Change(REVOCATION, key.uid))
        self._policy.forget_revocations(transaction, now - 2 * TOKEN_LIFE_S)

    def _bury_belongings(self, transaction: Transaction, who: str) -> None:
        """Delete the bindings and keys of a principal or group that goes, and take it out of its groups."""
        tenant = tenant_of(who)
        for binding in self._rows.in_tenant(transaction, Binding, tenant, who):
            if binding.body.who == who:
                self._rows.bury(transaction, Binding, binding.name, forever=False)
                self._count(transaction, binding)
        for key in self._rows.in_tenant(transaction, ApiKey, tenant, who):
            if key.body.principal == who:
                self._rows.bury(transaction, ApiKey, key.name, forever=False)
                self._revoke(transaction, key, self._now())
        for group in self._rows.in_tenant(transaction, Group, tenant, who):
            if who in group.body.members:
                left = tuple(member for member in group.body.members if member != who)
                changed = replace(
                    group,
                    revision=group.revision + 1,
                    update_time=self._now(),
                    body=msgspec.structs.replace(group.body, members=left),
                )
                self._rows.replace(transaction, changed, group.revision)
                self._count(transaction, changed)
