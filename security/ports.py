"""What the core asks of its stores; every method runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesh.db import Transaction
from mesh.pagination import Page
from security.entries import Body, Entry
from security.records import RecordFilter, StoredRecord

__all__ = ["DirectoryRows", "RecordRows"]


class DirectoryRows(Protocol):
    """The directory's rows; `security.store.directory` says what each method does."""

    def get(self, connection: Transaction, kind: type[Body], name: str) -> Entry[Body] | None:
        """One entry."""

    def taken(self, connection: Transaction, kind: type[Body], name: str) -> bool:
        """Whether a name is used or was."""

    def by_request(
        self, connection: Transaction, kind: type[Body], tenant: str, request_id: str
    ) -> tuple[Entry[Body], str] | None:
        """What a request created."""

    def digest_of(self, connection: Transaction, kind: type[Body], name: str) -> str:
        """The digest of the creating request."""

    def page(self, connection: Transaction, kind: type[Body], tenant: str, page: Page) -> list[Entry[Body]]:
        """A page of entries and one more."""

    def every(self, connection: Transaction, kind: type[Body]) -> list[Entry[Body]]:
        """All entries of a kind."""

    def add(self, connection: Transaction, entry: Entry[Body], *, request_id: str = "", digest: str = "") -> None:
        """Keep a new entry."""

    def replace(self, connection: Transaction, entry: Entry[Body], revision: int) -> bool:
        """Put an entry in the place of one of its revisions."""

    def bury(self, connection: Transaction, kind: type[Body], name: str, *, forever: bool) -> None:
        """Delete an entry."""

    def policy_revision(self, connection: Transaction) -> int:
        """The policy's revision."""

    def new_policy_revision(self, connection: Transaction) -> None:
        """Count a change of the policy."""


class RecordRows(Protocol):
    """The records' rows; `security.store.records` says what each method does."""

    def add(self, connection: Transaction, records: Sequence[StoredRecord]) -> int:
        """Keep what is new."""

    def get(self, connection: Transaction, tenant: str, uid: str) -> StoredRecord | None:
        """One record."""

    def page(self, connection: Transaction, tenant: str, wanted: RecordFilter, page: Page) -> list[StoredRecord]:
        """A page of records and one more."""
