"""The decision: may this principal do that, on this resource? Compiled from a snapshot, decided in memory.

A principal may do what a role allows that is bound to it on the resource or on anything above it. How snapshots
reach a service lives in `mesh.policy_holder`; how they are made is security's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from mesh.identity import SYSTEM_TENANT
from mesh.resource import tenant_of

__all__ = ["PLATFORM", "Binding", "Decision", "Policy", "Role", "Snapshot", "is_shared"]

PLATFORM = "tenants"
"""The resource above every tenant."""

_SHARED_KINDS = frozenset({"engine.models", "engine.decisions", "security.roles"})
_SHARED_VERBS = frozenset({"get", "list", "infer", "decide"})
_MAX_KEPT = 20_000


class Role(msgspec.Struct, frozen=True):
    """A named set of permissions; `*` stands for every service, resource or verb."""

    name: str
    permissions: tuple[str, ...]


class Binding(msgspec.Struct, frozen=True):
    """A principal's role on a resource and on all below it."""

    name: str
    principal: str
    role: str
    resource: str


class Snapshot(msgspec.Struct, frozen=True):
    """All that is needed to decide.

    Attributes:
        revision: grows with every change.
        jwks: the public keys of access tokens, a JSON Web Key Set.
        tenants: the tenants that exist, by name.
        roles: every role.
        bindings: every binding.
        principals: the principals that may act, by name.
    """

    revision: int
    jwks: str
    tenants: tuple[str, ...]
    roles: tuple[Role, ...]
    bindings: tuple[Binding, ...]
    principals: tuple[str, ...]

    def to_json(self) -> str:
        """As text, to be kept."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_json(text: str) -> Snapshot:
        """From the kept text.

        Raises:
            ValueError: it is no snapshot.
        """
        return msgspec.json.decode(text, type=Snapshot)


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, and by what: the binding that allowed it, or why none did."""

    allowed: bool
    by: str


def is_shared(permission: str) -> bool:
    """Whether what ships with the platform (`tenants/system`) may be used so from every tenant."""
    kind, _, verb = permission.rpartition(".")
    return kind in _SHARED_KINDS and verb in _SHARED_VERBS


class _Permissions:
    """The permissions of a role, wildcards understood; each answer is computed once."""

    __slots__ = ("_known", "_patterns")

    def __init__(self, permissions: tuple[str, ...]) -> None:
        self._patterns = [permission.split(".") for permission in permissions]
        self._known: dict[str, bool] = {}

    def __contains__(self, permission: str) -> bool:
        known = self._known.get(permission)
        if known is None:
            parts = permission.split(".")
            known = self._known[permission] = any(_covers(pattern, parts) for pattern in self._patterns)
        return known


def _covers(pattern: list[str], parts: list[str]) -> bool:
    if pattern == ["*"]:
        return True
    return len(pattern) == len(parts) and all(p in ("*", part) for p, part in zip(pattern, parts, strict=True))


class Policy:
    """A snapshot, compiled.

    Args:
        snapshot: what to decide by.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.revision = snapshot.revision
        self._tenants = frozenset(snapshot.tenants)
        self._principals = frozenset(snapshot.principals)
        self._roles: Mapping[str, _Permissions] = {role.name: _Permissions(role.permissions) for role in snapshot.roles}
        self._grants: dict[str, list[Binding]] = {}
        for binding in snapshot.bindings:
            if binding.role in self._roles:
                self._grants.setdefault(binding.principal, []).append(binding)
        self._decided: dict[tuple[str, str, str, str, str], Decision] = {}

    def decide(self, subject: str, role: str, permission: str, resource: str, tenant: str) -> Decision:
        """May the subject do this?

        Args:
            subject: `tenants/{tenant}/principals/{principal}`.
            role: at most what this role allows, by its id; empty for no such limit.
            permission: `service.resource.verb`.
            resource: a name, or `tenants` for the platform as a whole.
            tenant: the tenant that the subject acts in.
        """
        key = (subject, role, permission, resource, tenant)
        decision = self._decided.get(key)
        if decision is None:
            if len(self._decided) >= _MAX_KEPT:
                self._decided.clear()
            decision = self._decided[key] = self._decide(*key)
        return decision

    def _decide(self, subject: str, role: str, permission: str, resource: str, tenant: str) -> Decision:
        if subject not in self._principals:
            return Decision(allowed=False, by="principal unknown or disabled")
        if f"{PLATFORM}/{tenant}" not in self._tenants:
            return Decision(allowed=False, by="tenant unknown")
        if tenant_of(subject) not in (tenant, SYSTEM_TENANT):
            return Decision(allowed=False, by="another tenant's principal")
        if role and permission not in self._role(role, tenant):
            return Decision(allowed=False, by=f"outside the token's role {role}")
        owner = tenant_of(resource)
        if owner == SYSTEM_TENANT != tenant and is_shared(permission):
            resource = f"{PLATFORM}/{tenant}"  # who may do so at home may do so with what is shared
        elif owner != tenant and resource != PLATFORM:
            return Decision(allowed=False, by="another tenant's resource")
        for binding in self._grants.get(subject, ()):
            if _is_below(resource, binding.resource) and permission in self._roles[binding.role]:
                return Decision(allowed=True, by=binding.name)
        return Decision(allowed=False, by="no binding")

    def holds(self, subject: str, role: str, resource: str) -> bool:
        """Whether a role is bound to the subject on a resource or above it.

        Args:
            subject: the principal's name.
            role: the role's full name; the platform's own role of the same id counts as well.
            resource: the resource's name.
        """
        shared = f"{PLATFORM}/{SYSTEM_TENANT}/roles/{role.rsplit('/', 1)[-1]}"
        return subject in self._principals and any(
            binding.role in (role, shared) and _is_below(resource, binding.resource)
            for binding in self._grants.get(subject, ())
        )

    def _role(self, role: str, tenant: str) -> _Permissions:
        for owner in (tenant, SYSTEM_TENANT):
            permissions = self._roles.get(f"{PLATFORM}/{owner}/roles/{role}")
            if permissions is not None:
                return permissions
        return _Permissions(())


def _is_below(resource: str, ancestor: str) -> bool:
    """Whether a resource is the ancestor or lies below it."""
    return resource == ancestor or resource.startswith(ancestor + "/")
