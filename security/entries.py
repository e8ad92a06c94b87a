"""What security keeps: tenants, principals, API keys, roles, bindings, each with the fields every resource has.

Rules between them live in `security.directory`, SQL in `security.store`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

__all__ = ["ApiKey", "Binding", "Body", "Entry", "Principal", "Role", "Tenant"]


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


Body = TypeVar("Body", bound=Tenant | Principal | ApiKey | Role | Binding)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Body]):
    """A resource.

    Attributes:
        name: its full name.
        uid: never given twice.
        revision: 1 at first, one more with every change.
        create_time: when it was created, UTC.
        update_time: when it was last changed, UTC.
        body: its own fields.
        labels: the caller's.
    """

    name: str
    uid: str
    revision: int
    create_time: datetime
    update_time: datetime
    body: Body
    labels: dict[str, str] = field(default_factory=dict)
