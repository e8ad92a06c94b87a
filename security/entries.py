"""What security keeps: tenants, principals, API keys, roles, bindings, each with its own fields.

The fields that every resource has are `mesh.entries`'; rules between them live in `security.directory`.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

__all__ = ["ApiKey", "Binding", "Principal", "Role", "Tenant"]


class Tenant(msgspec.Struct, frozen=True):
    """An organisation."""

    display_name: str = ""


class Principal(msgspec.Struct, frozen=True):
    """Somebody or something that acts; `kind` is a number of the contract's enum."""

    kind: int = 0
    display_name: str = ""
    disabled: bool = False


class ApiKey(msgspec.Struct, frozen=True):
    """A long-lived secret of a principal; only its keyed hash is kept."""

    principal: str
    digest: str = ""
    display_name: str = ""
    expire_time: datetime | None = None


class Role(msgspec.Struct, frozen=True):
    """A named set of permissions."""

    title: str = ""
    description: str = ""
    permissions: tuple[str, ...] = ()


class Binding(msgspec.Struct, frozen=True):
    """A principal's role on a resource and on everything below it."""

    principal: str
    role: str
    resource: str
