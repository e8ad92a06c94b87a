"""What all servicers of a service's resources share: the fields every resource has, and its standard methods.

What is particular to a resource is in that resource's own servicer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.catalogue import Catalogue
from mesh.entries import Body, Creation, Entry, entry_etag
from mesh.etag import etag_of
from mesh.masks import masked_fields
from mesh.pagination import Pages

__all__ = ["Resource", "Shelf", "creation_of", "timestamp"]


class Resource(Protocol):
    """What every resource's message has."""

    name: str
    uid: str
    etag: str
    create_time: Timestamp
    update_time: Timestamp
    labels: Any


R = TypeVar("R", bound=Resource)


def timestamp(moment: datetime) -> Timestamp:
    """A moment as the contracts carry it."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


class ListRequest(Protocol):
    """What every request for a page has."""

    page_size: int
    page_token: str


@dataclass(frozen=True)  # slots and a subscripted call do not go together before Python 3.12
class Shelf(Generic[Body, R]):
    """The standard methods of one kind of resource.

    Attributes:
        catalogue: the core.
        pages: makes and checks page tokens.
        kind: the entries' own type.
        collection: the part of the name before the id, `principals`; empty where the id follows the parent.
        show: makes the message's own fields.
        read: makes the entry's own fields from a message.
        changeable: the fields that an update may change, labels included.
    """

    catalogue: Catalogue
    pages: Pages
    kind: type[Body]
    collection: str
    show: Callable[[Body], R]
    read: Callable[[R], Body]
    changeable: Collection[str] = ()

    def message(self, entry: Entry[Body]) -> R:
        """The resource's message."""
        message = self.show(entry.body)
        message.name, message.uid, message.etag = entry.name, entry.uid, entry_etag(entry)
        message.create_time.CopyFrom(timestamp(entry.create_time))
        message.update_time.CopyFrom(timestamp(entry.update_time))
        message.labels.update(entry.labels)
        return message

    async def get(self, name: str) -> R:
        """GetX."""
        return self.message(await self.catalogue.get(self.kind, name))

    async def list(self, parent: str, request: ListRequest) -> tuple[list[R], str]:
        """ListX: the page's messages and the next page's token."""
        bound_to = (self.kind.__name__, parent)
        page = self.pages.start(bound_to, request.page_size, request.page_token)
        found = await self.catalogue.page(self.kind, parent, page)
        kept, token = self.pages.cut(bound_to, page, found, [entry.name for entry in found])
        return [self.message(entry) for entry in kept], token

    def name(self, parent: str, entry_id: str) -> str:
        """The name that a new resource gets."""
        return "/".join(part for part in (parent, self.collection, entry_id) if part)

    async def create(
        self, name: str, resource: R, request: Message, body: Body | None = None, *, validate_only: bool = False
    ) -> Entry[Body]:
        """CreateX.

        Args:
            name: the new resource's name.
            resource: the resource as sent.
            request: the whole request.
            body: what to keep, where it is not just what was sent.
            validate_only: true to check everything and keep nothing.
        """
        creation = creation_of(request)
        kept = body if body is not None else self.read(resource)
        return await self.catalogue.create(name, kept, dict(resource.labels), creation, validate_only=validate_only)

    async def update(self, resource: R, mask: FieldMask, *, validate_only: bool = False) -> R:
        """UpdateX."""
        fields = masked_fields(resource, mask, self.changeable)  # type: ignore[arg-type]
        sent = self.read(resource)

        def change(entry: Entry[Body]) -> Entry[Body]:
            changed = {field: getattr(sent, field) for field in fields if field != "labels"}
            labels = dict(resource.labels) if "labels" in fields else entry.labels
            return replace(entry, body=msgspec.structs.replace(entry.body, **changed), labels=labels)

        return self.message(
            await self.catalogue.update(self.kind, resource.name, resource.etag, change, validate_only=validate_only)
        )

    async def delete(self, name: str, etag: str, *, forever: bool = False) -> None:
        """DeleteX; `forever` keeps the name from being given again."""
        await self.catalogue.delete(self.kind, name, etag, forever=forever)


def creation_of(request: Any) -> Creation:  # noqa: ANN401 -- any create request
    """How a create request may be repeated."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    return Creation(request.request_id, etag_of(bare.SerializeToString(deterministic=True).hex()))
