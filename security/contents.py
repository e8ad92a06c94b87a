"""What the directory's entries add up to: the whole policy, or what a few changes make of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from mesh.db import Transaction
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from mesh.policy import TOKEN_LIFE_S
from mesh.snapshot import Account, Binding, Delta, Group, Quota, Revocation, Role, Snapshot
from security import entries
from security.changes import REVOCATION
from security.ports import PolicyRows

__all__ = ["read_all", "read_changes"]

_KINDS = {
    kind.__name__: kind for kind in (entries.Tenant, entries.Principal, entries.Group, entries.Role, entries.Binding)
}


def read_all(transaction: Transaction, rows: EntryStore, policy: PolicyRows, jwks: str) -> Snapshot:
    """The whole policy."""
    revision = policy.policy_revision(transaction)  # first: what comes in between comes again as a change
    found = {name: rows.every(transaction, kind) for name, kind in _KINDS.items()}
    revoked = policy.revocations(transaction, time.time() - TOKEN_LIFE_S)
    whole = _snapshot(revision, jwks, found, revoked)
    return msgspec.structs.replace(whole, quotas=tuple(q for q in whole.quotas if q.total or q.each))


def read_changes(transaction: Transaction, rows: EntryStore, policy: PolicyRows, base: int) -> Delta | None:
    """What has changed since a revision; None where that is not known, or all must be read anew."""
    changes = policy.changes(transaction, base)
    if changes is None:
        return None
    found: dict[str, list[Entry[Any]]] = {name: [] for name in _KINDS}
    removed, revoked = [], {}
    for change in dict.fromkeys(changes):
        if change.kind == REVOCATION:
            revoked[change.name] = policy.revocation(transaction, change.name)
            continue
        if change.kind not in _KINDS:
            return None  # the keys of access tokens are other ones
        entry = rows.get(transaction, _KINDS[change.kind], change.name)
        if entry is None or _is_disabled(entry):
            removed.append(change.name)
        else:
            found[change.kind].append(entry)
    return Delta(base, _snapshot(base + len(changes), "", found, revoked), tuple(removed))


def _snapshot(revision: int, jwks: str, found: dict[str, list[Entry[Any]]], revoked: dict[str, float]) -> Snapshot:
    principals = [entry for entry in found["Principal"] if not _is_disabled(entry)]
    return Snapshot(
        revision=revision,
        jwks=jwks,
        tenants=tuple(entry.name for entry in found["Tenant"]),
        roles=tuple(Role(entry.name, entry.body.permissions) for entry in found["Role"]),
        bindings=tuple(_binding(entry) for entry in found["Binding"]),
        principals=tuple(entry.name for entry in principals),
        groups=tuple(Group(entry.name, entry.body.members) for entry in found["Group"]),
        accounts=tuple(
            Account(
                entry.name,
                entry.uid,
                entry.body.revoke_time.timestamp() if entry.body.revoke_time else 0.0,
                entry.body.limits,
            )
            for entry in principals
        ),
        quotas=tuple(Quota(entry.name, entry.body.limits, entry.body.principal_limits) for entry in found["Tenant"]),
        revocations=tuple(Revocation(uid, at) for uid, at in revoked.items()),
    )


def _binding(entry: Entry[entries.Binding]) -> Binding:
    """A binding as services decide by it; one that any release understands names its principal as such."""
    body = entry.body
    start = body.start_time.timestamp() if body.start_time else 0.0
    expire = body.expire_time.timestamp() if body.expire_time else 0.0
    deny = body.effect == entries.DENY
    if body.principal and not (deny or start or expire or body.condition):
        return Binding(entry.name, body.principal, body.role, body.resource)
    return Binding(entry.name, "", body.role, body.resource, body.who, deny, start, expire, body.condition)


def _is_disabled(entry: Entry[Any]) -> bool:
    return isinstance(entry.body, entries.Principal) and entry.body.disabled
