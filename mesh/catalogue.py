"""The life of a service's resources: created once however often it is asked, changed under an etag, deleted.

What is particular to a kind of resource is a subclass's, in the service that owns it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from mesh.db import Database, Transaction
from mesh.entries import Body, Creation, Entry, entry_etag
from mesh.entry_store import EntryStore
from mesh.errors import Code, TiationError
from mesh.etag import check_etag
from mesh.pagination import Page
from mesh.resource import tenant_of

__all__ = ["AlreadyExistsError", "Catalogue", "NameUsedError", "NotFoundError"]


class NotFoundError(TiationError):
    """There is no such resource."""

    code = Code.NOT_FOUND
    reason = "RESOURCE_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", resource=name)


class AlreadyExistsError(TiationError):
    """The name is taken, or was taken once and is never given again."""

    code = Code.ALREADY_EXISTS
    reason = "RESOURCE_ALREADY_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} exists already with other content; choose another id", resource=name)


class NameUsedError(AlreadyExistsError):
    """The name belonged to something that was deleted."""

    reason = "RESOURCE_NAME_USED"

    def __init__(self, name: str) -> None:
        TiationError.__init__(
            self, f"{name} was deleted, and its name is never given again; choose another id", resource=name
        )


class Catalogue:
    """Keeps entries.

    Args:
        database: the service's own database.
        rows: its statements.
        now: the wall clock, UTC.
    """

    def __init__(
        self, database: Database, rows: EntryStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._rows = rows
        self._now = now

    async def get(self, kind: type[Body], name: str) -> Entry[Body]:
        """The entry of that name.

        Raises:
            NotFoundError: there is none.
        """
        return await self._database.read(lambda transaction: self.found(transaction, kind, name))

    async def page(self, kind: type[Body], parent: str, page: Page) -> list[Entry[Body]]:
        """One entry more than the page holds, by name.

        Args:
            kind: of what.
            parent: the resource that they are below; `tenants` for tenants themselves.
            page: which page.
        """
        return await self._database.read(lambda transaction: self._rows.below(transaction, kind, parent, page))

    async def every(self, kind: type[Body]) -> list[Entry[Body]]:
        """Every entry of a kind, whosever it is: for the service's own start."""
        return await self._database.read(lambda transaction: self._rows.every(transaction, kind))

    async def create(
        self, name: str, body: Body, labels: Mapping[str, str], creation: Creation, *, validate_only: bool = False
    ) -> Entry[Body]:
        """Keep a new entry; the same request again returns what the first one made.

        Args:
            name: its full name.
            body: its own fields.
            labels: the caller's.
            creation: how often it may be repeated.
            validate_only: true to check everything and keep nothing.

        Raises:
            AlreadyExistsError: the name is taken, or the request id was used for something else.
        """
        now = self._now()
        entry = Entry(name, str(uuid.uuid4()), 1, now, now, body, dict(labels))

        def check(transaction: Transaction) -> Entry[Body] | None:
            earlier = self._earlier(transaction, type(body), name, creation)
            if earlier is None:
                self.check(transaction, entry)
            return earlier

        def work(transaction: Transaction) -> Entry[Body]:
            earlier = check(transaction)
            if earlier is not None:
                return earlier
            self._rows.add(transaction, entry, request_id=creation.request_id, digest=creation.digest)
            self.wrote(transaction, entry)
            return entry

        if validate_only:
            return await self._database.read(check) or entry
        created = await self._database.write(work)
        self.committed(type(body))
        return created

    async def update(
        self,
        kind: type[Body],
        name: str,
        etag: str,
        change: Callable[[Entry[Body]], Entry[Body]],
        *,
        validate_only: bool = False,
    ) -> Entry[Body]:
        """Change an entry.

        Raises:
            NotFoundError: there is none.
            StaleEtagError: it is no longer the one that the caller has read.
        """

        def look(transaction: Transaction) -> tuple[Entry[Body], Entry[Body]]:
            current = self.found(transaction, kind, name)
            check_etag(etag, entry_etag(current), name)
            changed = replace(change(current), revision=current.revision + 1, update_time=self._now())
            self.check(transaction, changed)
            return current, changed

        def work(transaction: Transaction) -> Entry[Body]:
            current, changed = look(transaction)
            self._rows.replace(transaction, changed, current.revision)
            self.wrote(transaction, changed)
            return changed

        if validate_only:
            return (await self._database.read(look))[1]
        updated = await self._database.write(work)
        self.committed(kind)
        return updated

    async def delete(self, kind: type[Body], name: str, etag: str, *, forever: bool = False) -> None:
        """Delete an entry; `forever` keeps its name from being given again.

        Raises:
            NotFoundError: there is none.
            StaleEtagError: it is no longer the one that the caller has read.
        """

        def work(transaction: Transaction) -> None:
            current = self.found(transaction, kind, name)
            check_etag(etag, entry_etag(current), name)
            self.deleting(transaction, current)
            self._rows.bury(transaction, kind, name, forever=forever)

        await self._database.write(work)
        self.committed(kind)

    def found(self, transaction: Transaction, kind: type[Body], name: str) -> Entry[Body]:
        """The entry of that name, inside a transaction.

        Raises:
            NotFoundError: there is none.
        """
        entry = self._rows.get(transaction, kind, name)
        if entry is None:
            raise NotFoundError(name)
        return entry

    def check(self, transaction: Transaction, entry: Entry[Body]) -> None:
        """Refuse an entry that cannot be; asked before it is created or changed."""

    def wrote(self, transaction: Transaction, entry: Entry[Body]) -> None:
        """Do what belongs to a creation or change, in the same transaction."""

    def deleting(self, transaction: Transaction, entry: Entry[Body]) -> None:
        """Refuse a deletion, or do what belongs to it, in the same transaction."""

    def committed(self, kind: type) -> None:
        """Hear that entries of a kind have changed."""

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
        if current is None:
            raise NameUsedError(name)
        if self._rows.digest_of(transaction, kind, name) != creation.digest:
            raise AlreadyExistsError(name)
        return current
