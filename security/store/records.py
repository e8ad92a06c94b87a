"""The SQL of call records: stored once each, listed newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, column, func, select, table, text
from sqlalchemy.dialects import postgresql, sqlite

from mesh.pagination import Page
from security.records import RecordFilter, StoredRecord

__all__ = ["RecordStore"]

_records = table(
    "records",
    *(column(name) for name in ("sequence", "uid", "tenant", "service", "subject", "code", "receive_time", "record")),
)


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7308058210733353571)")
"""PostgreSQL gives sequences before it commits: whoever adds records holds this until then, or a reader of the stream
would pass by a record that commits after one with a higher sequence. SQLite has one writer anyway."""


@dataclass(frozen=True, slots=True)
class RecordStore:
    """Statements on a connection."""

    def add(self, connection: Connection, records: Sequence[StoredRecord]) -> int:
        """Keep those whose uid is new; returns how many those were."""
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(_records).on_conflict_do_nothing(index_elements=["uid"])
        if dialect is postgresql:
            connection.execute(_ONE_AT_A_TIME)
        before = self.newest(connection)
        connection.execute(
            statement,
            [
                {
                    "uid": record.uid,
                    "tenant": record.tenant,
                    "service": record.service,
                    "subject": record.subject,
                    "code": record.code,
                    "receive_time": record.receive_time.isoformat(),
                    "record": record.record,
                }
                for record in records
            ],
        )
        added = select(func.count()).select_from(_records).where(_records.c.sequence > before)
        return int(connection.execute(added).scalar_one())

    def newest(self, connection: Connection) -> int:
        """The sequence of the newest record; 0 where there is none."""
        return connection.execute(select(func.max(_records.c.sequence))).scalar() or 0

    def after(self, connection: Connection, sequence: int, limit: int) -> list[StoredRecord]:
        """The next records of all tenants, in the order in which they were stored."""
        statement = select(_records).where(_records.c.sequence > sequence).order_by(_records.c.sequence).limit(limit)
        return [_stored(row) for row in connection.execute(statement)]

    def get(self, connection: Connection, tenant: str, uid: str) -> StoredRecord | None:
        """One tenant's record."""
        row = connection.execute(
            select(_records).where(_records.c.tenant == tenant, _records.c.uid == uid)
        ).one_or_none()
        return _stored(row) if row is not None else None

    def page(self, connection: Connection, tenant: str, wanted: RecordFilter, page: Page) -> list[StoredRecord]:
        """One record more than the page holds, newest first."""
        statement = select(_records).where(_records.c.tenant == tenant)
        if wanted.service:
            statement = statement.where(_records.c.service == wanted.service)
        if wanted.code is not None:
            statement = statement.where(_records.c.code == wanted.code)
        if wanted.subject:
            statement = statement.where(_records.c.subject == wanted.subject)
        if page.cursor is not None:
            statement = statement.where(_records.c.sequence < int(page.cursor))
        rows = connection.execute(statement.order_by(_records.c.sequence.desc()).limit(page.limit + 1))
        return [_stored(row) for row in rows]


def _stored(row: Row[Any]) -> StoredRecord:
    return StoredRecord(
        sequence=row.sequence,
        uid=row.uid,
        tenant=row.tenant,
        service=row.service,
        subject=row.subject,
        code=row.code,
        receive_time=datetime.fromisoformat(row.receive_time),
        record=row.record,
    )
