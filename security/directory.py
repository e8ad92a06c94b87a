"""The directory: tenants, principals, API keys, roles and bindings, and the rules between them.

How they are kept is `security.store`; what they add up to is `security.feed`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mesh.db import Database, Transaction
from mesh.errors import InvalidError
from mesh.etag import check_etag, etag_of
from mesh.identity import SYSTEM_TENANT
from mesh.pagination import Page
from mesh.policy import PLATFORM
from mesh.resource import tenant_of
from security.entries import ApiKey, Binding, Body, Entry, Principal, Role, Tenant
from security.errors import AlreadyExistsError, BuiltInError, NotFoundError
from security.ports import DirectoryRows

__all__ = ["BUILT_IN_TENANTS", "Creation", "Directory", "entry_etag"]

BUILT_IN_TENANTS = frozenset({"tenants/default", f"tenants/{SYSTEM_TENANT}"})
_IN_POLICY = (Tenant, Principal, Binding, Role)


@dataclass(frozen=True, slots=True)
class Creation:
    """How often a creation may be repeated.

    Attributes:
        request_id: a UUID of the caller's, or empty.
        digest: of everything else in the request: the same digest again is the same request.
    """

    request_id: str
    digest: str


def entry_etag(entry: Entry[Body]) -> str:
    """The etag of an entry as it is now."""
    return etag_of(entry.uid, entry.revision)


class Directory:
    """Keeps the entries.

    Args:
        database: security's own database.
        rows: its statements.
        changed: told after every change that the policy has to follow.
        now: the wall clock, UTC.
    """

    def __init__(
        self,
        database: Database,
        rows: DirectoryRows,
        changed: Callable[[], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._rows = rows
        self._changed = changed
        self._now = now

    async def get(self, kind: type[Body], name: str) -> Entry[Body]:
        """The entry of that name.

        Raises:
            NotFoundError: there is none.
        """
        return await self._database.read(lambda transaction: self._found(transaction, kind, name))

    async def page(self, kind: type[Body], tenant: str, page: Page) -> list[Entry[Body]]:
        """One entry more than the page holds, by name; an empty tenant means all of them."""
        return await self._database.read(lambda transaction: self._rows.page(transaction, kind, tenant, page))

    async def create(self, name: str, body: Body, labels: Mapping[str, str], creation: Creation) -> Entry[Body]:
        """Keep a new entry; the same request again returns what the first one made.

        Raises:
            AlreadyExistsError: the name is taken, or the request id was used for something else.
            InvalidError: it refers to something that is not there.
        """
        now = self._now()
        entry = Entry(name, str(uuid.uuid4()), 1, now, now, body, dict(labels))

        def work(transaction: Transaction) -> Entry[Body]:
            earlier = self._earlier(transaction, type(body), name, creation)
            if earlier is not None:
                return earlier
            self._check_references(transaction, entry)
            self._rows.add(transaction, entry, request_id=creation.request_id, digest=creation.digest)
            self._count(transaction, type(body))
            return entry

        created = await self._database.write(work)
        self._announce(type(body))
        return created

    async def update(
        self, kind: type[Body], name: str, etag: str, change: Callable[[Entry[Body]], Entry[Body]]
    ) -> Entry[Body]:
        """Change an entry.

        Raises:
            NotFoundError: there is none.
            StaleEtagError: it is no longer the one that the caller has read.
        """

        def work(transaction: Transaction) -> Entry[Body]:
            current = self._found(transaction, kind, name)
            check_etag(etag, entry_etag(current), name)
            changed = replace(change(current), revision=current.revision + 1, update_time=self._now())
            self._check_references(transaction, changed)
            self._rows.replace(transaction, changed, current.revision)
            self._count(transaction, kind)
            return changed

        updated = await self._database.write(work)
        self._announce(kind)
        return updated

    async def delete(self, kind: type[Body], name: str, etag: str) -> None:
        """Delete an entry, and what cannot be without it.

        Raises:
            NotFoundError: there is none.
            StaleEtagError: it is no longer the one that the caller has read.
            BuiltInError: it ships with the platform.
        """

        def work(transaction: Transaction) -> None:
            current = self._found(transaction, kind, name)
            check_etag(etag, entry_etag(current), name)
            if name in BUILT_IN_TENANTS:
                raise BuiltInError(name)
            self._rows.bury(transaction, kind, name, forever=issubclass(kind, Tenant))
            if issubclass(kind, Principal):
                self._bury_belongings(transaction, name)
            self._count(transaction, kind)

        await self._database.write(work)
        self._announce(kind)

    def _earlier(self, transaction: Transaction, kind: type[Body], name: str, creation: Creation) -> Entry[Body] | None:
        """What the same request made before."""
        if creation.request_id:
            by_request = self._rows.by_request(transaction, kind, tenant_of(name), creation.request_id)
            if by_request is not None:
                entry, digest = by_request
                if digest != creation.digest:
                    raise AlreadyExistsError(entry.name)
                return entry
        if not self._rows.taken(transaction, kind, name):
            return None
        current = self._rows.get(transaction, kind, name)
        if current is None or self._rows.digest_of(transaction, kind, name) != creation.digest:
            raise AlreadyExistsError(name)
        return current

    def _check_references(self, transaction: Transaction, entry: Entry[Body]) -> None:
        body, tenant = entry.body, f"{PLATFORM}/{tenant_of(entry.name)}"
        if isinstance(body, (ApiKey, Binding)):
            self._check_principal(transaction, body.principal, tenant)
        if isinstance(body, ApiKey) and entry.revision == 1 and body.expire_time and body.expire_time <= self._now():
            raise InvalidError("api_key.expire_time", "must lie in the future")
        if not isinstance(body, Binding):
            return
        if self._rows.get(transaction, Role, body.role) is None or tenant_of(body.role) not in (
            SYSTEM_TENANT,
            tenant_of(entry.name),
        ):
            raise InvalidError("binding.role", f"there is no role {body.role}; list them with ListRoles")
        below = body.resource == tenant or body.resource.startswith(tenant + "/")
        if not below and not (body.resource == PLATFORM and tenant_of(entry.name) == SYSTEM_TENANT):
            raise InvalidError("binding.resource", f"must be {tenant} or lie below it")

    def _check_principal(self, transaction: Transaction, principal: str, tenant: str) -> None:
        if not principal.startswith(tenant + "/") or self._rows.get(transaction, Principal, principal) is None:
            raise InvalidError("principal", f"there is no {principal} in {tenant}", principal=principal)

    def _bury_belongings(self, transaction: Transaction, principal: str) -> None:
        """Delete the bindings and keys of a principal that goes."""
        for binding in self._rows.every(transaction, Binding):
            if binding.body.principal == principal:
                self._rows.bury(transaction, Binding, binding.name, forever=False)
        for key in self._rows.every(transaction, ApiKey):
            if key.body.principal == principal:
                self._rows.bury(transaction, ApiKey, key.name, forever=False)

    def _found(self, transaction: Transaction, kind: type[Body], name: str) -> Entry[Body]:
        entry = self._rows.get(transaction, kind, name)
        if entry is None:
            raise NotFoundError(name)
        return entry

    def _count(self, transaction: Transaction, kind: type) -> None:
        if kind in _IN_POLICY:
            self._rows.new_policy_revision(transaction)

    def _announce(self, kind: type) -> None:
        if kind in _IN_POLICY:
            self._changed()
