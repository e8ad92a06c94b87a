"""What the core asks of its stores; every method runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesh.db import Transaction
from mesh.pagination import Page
from security.changes import Change
from security.records import RecordFilter, StoredRecord

__all__ = ["PolicyRows", "RecordRows"]


class PolicyRows(Protocol):
    """The policy's revision and its changes; `security.store.policy` says what each method does."""

    def policy_revision(self, connection: Transaction) -> int:
        """The policy's revision."""

    def new_policy_revision(self, connection: Transaction, change: Change) -> None:
        """Count a change of the policy."""

    def changes(self, connection: Transaction, after: int) -> Sequence[Change] | None:
        """What changed after a revision."""

    def revoke(self, connection: Transaction, uid: str, at: float) -> None:
        """Refuse a key's tokens from a time on."""

    def revocations(self, connection: Transaction, since: float) -> dict[str, float]:
        """The keys that were taken back after a time."""

    def revocation(self, connection: Transaction, uid: str) -> float:
        """From when on a key's tokens are refused."""

    def forget_revocations(self, connection: Transaction, before: float) -> None:
        """Forget keys that were taken back long ago."""


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
