"""Security's SQL: the policy's revision, and the records."""

from security.store.policy import PolicyStore
from security.store.records import RecordStore

__all__ = ["PolicyStore", "RecordStore"]
