"""Security's SQL: the directory's entries, and the records."""

from security.store.directory import DirectoryStore
from security.store.records import RecordStore

__all__ = ["DirectoryStore", "RecordStore"]
