"""What a service keeps of its resources: the fields that every resource has, and a body of its own fields.

How entries are kept is `mesh.entry_store`; the rules of their life are `mesh.catalogue`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from mesh.etag import etag_of

__all__ = ["Body", "Creation", "Entry", "entry_etag"]

Body = TypeVar("Body", bound=msgspec.Struct)
"""A resource's own fields: a frozen struct, kept as JSON."""


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
