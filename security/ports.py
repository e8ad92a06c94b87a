"""What the core asks of its stores; every method runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesh.db import Transaction
from mesh.pagination import Page
from security.records import RecordFilter, StoredRecord

__all__ = ["PolicyRows", "RecordRows"]


class PolicyRows(Protocol):
    """The policy's revision; `security.store.directory` says what each method does."""

    def policy_revision(self, connection: Transaction) -> int:
        """The policy's revision."""

    def new_policy_revision(self, connection: Transaction) -> None:
        """Count a change of the policy."""


class RecordRows(Protocol):
    """The records' rows; `security.store.records` says what each method does."""

    def add(self, connection: Transaction, records: Sequence[StoredRecord]) -> int:
        """Keep what is new."""

    def newest(self, connection: Transaction) -> int:
        """The newest record's sequence."""

    def after(self, connection: Transaction, sequence: int, limit: int) -> list[StoredRecord]:
        """The next records of all tenants."""

    def get(self, connection: Transaction, tenant: str, uid: str) -> StoredRecord | None:
        """One record."""

    def page(self, connection: Transaction, tenant: str, wanted: RecordFilter, page: Page) -> list[StoredRecord]:
        """A page of records and one more."""
