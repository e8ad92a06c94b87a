"""The directory: tenants, principals, API keys, roles and bindings, and the rules between them.

What they add up to is `security.feed`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mesh.catalogue import Catalogue
from mesh.db import Database, Transaction
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from mesh.errors import InvalidError
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from mesh.resource import tenant_of
from security.entries import ApiKey, Binding, Principal, Role, Tenant
from security.errors import BuiltInError
from security.ports import PolicyRows

__all__ = ["BUILT_IN_TENANTS", "Directory"]

BUILT_IN_TENANTS = frozenset({"tenants/default", f"tenants/{SYSTEM_TENANT}"})
_IN_POLICY = (Tenant, Principal, Binding, Role)


class Directory(Catalogue):
    """Keeps the directory.

    Args:
        database: security's own database.
        rows: its statements.
        policy: counts the policy's changes.
        changed: told after every change that the policy has to follow.
        now: the wall clock, UTC.
    """

    def __init__(
        self,
        database: Database,
        rows: EntryStore,
        policy: PolicyRows,
        changed: Callable[[], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(database, rows, now)
        self._policy = policy
        self._changed = changed

    def check(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Refuse what refers to something that is not there."""
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

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Count a change of the policy."""
        if isinstance(entry.body, _IN_POLICY):
            self._policy.new_policy_revision(transaction)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Keep what ships with the platform; delete what cannot be without a principal."""
        if entry.name in BUILT_IN_TENANTS:
            raise BuiltInError(entry.name)
        if isinstance(entry.body, Principal):
            self._bury_belongings(transaction, entry.name)
        self.wrote(transaction, entry)

    def committed(self, kind: type) -> None:
        """Tell those who make the policy."""
        if issubclass(kind, _IN_POLICY):
            self._changed()

    def _bury_belongings(self, transaction: Transaction, principal: str) -> None:
        """Delete the bindings and keys of a principal that goes."""
        for binding in self._rows.every(transaction, Binding):
            if binding.body.principal == principal:
                self._rows.bury(transaction, Binding, binding.name, forever=False)
        for key in self._rows.every(transaction, ApiKey):
            if key.body.principal == principal:
                self._rows.bury(transaction, ApiKey, key.name, forever=False)
