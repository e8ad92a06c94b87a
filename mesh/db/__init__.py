"""A service's database: SQLite or PostgreSQL behind one port, writes in groups, word to the other processes."""

from mesh.db.database import Database, Transaction, Work
from mesh.db.faults import (
    DatabaseBusyError,
    DatabaseFullError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    DatabaseUnreadableError,
    TextInvalidError,
    said,
    values_at_fault,
)
from mesh.db.location import DatabaseUrlError, address_of, postgres_url
from mesh.db.news import announce
from mesh.db.opening import await_database, open_database

__all__ = [
    "Database",
    "DatabaseBusyError",
    "DatabaseFullError",
    "DatabaseRefusedError",
    "DatabaseUnavailableError",
    "DatabaseUnreadableError",
    "DatabaseUrlError",
    "TextInvalidError",
    "Transaction",
    "Work",
    "address_of",
    "announce",
    "await_database",
    "open_database",
    "postgres_url",
    "said",
    "values_at_fault",
]
