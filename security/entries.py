"""What security keeps: tenants, principals, groups, API keys, roles, bindings, each with its own fields.

The fields that every resource has are `mesh.entries`'; rules between them live in `security.directory`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from mesh.snapshot import Condition, Limits

__all__ = ["ALLOW", "DENY", "ApiKey", "Binding", "Group", "Principal", "Role", "Tenant"]

ALLOW, DENY = 1, 2
"""Numbers of `Binding.Effect` in the contract; 0 means ALLOW."""


class Tenant(msgspec.Struct, frozen=True):
    """An organisation."""

    display_name: str = ""
    limits: Limits | None = None
    principal_limits: Limits | None = None


class Principal(msgspec.Struct, frozen=True):
    """Somebody or something that acts; `kind` is a number of the contract's enum."""

    kind: int = 0
    display_name: str = ""
    disabled: bool = False
    limits: Limits | None = None
    revoke_time: datetime | None = None


class Group(msgspec.Struct, frozen=True):
    """Principals and groups that are given roles together, by name, sorted."""

    display_name: str = ""
    members: tuple[str, ...] = ()


class ApiKey(msgspec.Struct, frozen=True):
    """A long-lived secret of a principal; only its keyed hash is kept."""

    principal: str
    digest: str = ""
    display_name: str = ""
    expire_time: datetime | None = None


class TokenKeys(msgspec.Struct, frozen=True):
    """The public keys of access tokens that the policy was last given with, by their hash; nobody is shown it."""

    digest: str = ""


class Role(msgspec.Struct, frozen=True):
    """A named set of permissions."""

    title: str = ""
    description: str = ""
    permissions: tuple[str, ...] = ()


class Binding(msgspec.Struct, frozen=True):
    """A role of a principal or of a group on a resource and on everything below it, given or denied."""

    principal: str
    role: str
    resource: str
    group: str = ""
    effect: int = 0
    start_time: datetime | None = None
    expire_time: datetime | None = None
    condition: Condition | None = None

    @property
    def who(self) -> str:
        """The principal or group that it names."""
        return self.principal or self.group
