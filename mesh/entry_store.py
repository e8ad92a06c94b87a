"""The SQL of entries: one table a service, one row a resource, whatever its kind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, column, insert, select, table, update

from mesh.db import announce
from mesh.entries import Body, Entry
from mesh.pagination import Page
from mesh.resource import tenant_of

__all__ = ["EntryStore"]

_COLUMNS = (
    "kind", "name", "tenant", "uid", "revision", "create_time", "update_time", "delete_time", "labels", "body",
    "request_id", "request_digest",
)  # fmt: skip
_entries = table("entries", *(column(name) for name in _COLUMNS))


class EntryStore:
    """Statements on a connection; each method is one, and runs inside the caller's transaction.

    Other processes of the service hear of every change under the topic `entries`: the kind and the name.
    """

    def get(self, connection: Connection, kind: type[Body], name: str) -> Entry[Body] | None:
        """The entry of that name, unless there is none or it was deleted."""
        row = self._row(connection, kind, name)
        return _entry(kind, row) if row is not None and row.delete_time is None else None

    def taken(self, connection: Connection, kind: type[Body], name: str) -> bool:
        """Whether the name is used, or was once and is never given again."""
        return self._row(connection, kind, name) is not None

    def by_request(
        self, connection: Connection, kind: type[Body], tenant: str, request_id: str
    ) -> tuple[Entry[Body], str] | None:
        """What an earlier request with this id created, and that request's digest."""
        found = connection.execute(
            select(_entries).where(
                _entries.c.kind == kind.__name__, _entries.c.tenant == tenant, _entries.c.request_id == request_id
            )
        ).one_or_none()
        return (_entry(kind, found), found.request_digest) if found is not None else None

    def below(self, connection: Connection, kind: type[Body], parent: str, page: Page) -> list[Entry[Body]]:
        """One entry more than the page holds of those below a resource, by name."""
        statement = select(_entries).where(
            _entries.c.kind == kind.__name__,
            _entries.c.name > max(f"{parent}/", page.cursor or ""),
            _entries.c.name < f"{parent}0",  # `0` is the character after `/`
            _entries.c.delete_time.is_(None),
        )
        if tenant_of(parent):
            statement = statement.where(_entries.c.tenant == tenant_of(parent))
        rows = connection.execute(statement.order_by(_entries.c.name).limit(page.limit + 1))
        return [_entry(kind, row) for row in rows]

    def digest_of(self, connection: Connection, kind: type[Body], name: str) -> str:
        """The digest of the request that created the entry."""
        row = self._row(connection, kind, name)
        return str(row.request_digest or "") if row is not None else ""

    def every(self, connection: Connection, kind: type[Body]) -> list[Entry[Body]]:
        """Every entry of a kind in every tenant, by name."""
        statement = select(_entries).where(_entries.c.kind == kind.__name__, _entries.c.delete_time.is_(None))
        return [_entry(kind, row) for row in connection.execute(statement.order_by(_entries.c.name))]

    def in_tenant(self, connection: Connection, kind: type[Body], tenant: str, holding: str = "") -> list[Entry[Body]]:
        """Every entry of a kind in one tenant, by name.

        Args:
            connection: the transaction.
            kind: of what.
            tenant: its id.
            holding: only those whose fields hold this resource's name in full somewhere; empty for all.
        """
        statement = select(_entries).where(
            _entries.c.kind == kind.__name__, _entries.c.tenant == tenant, _entries.c.delete_time.is_(None)
        )
        if holding:
            statement = statement.where(_entries.c.body.contains(f'"{holding}"', autoescape=True))
        return [_entry(kind, row) for row in connection.execute(statement.order_by(_entries.c.name))]

    def add(self, connection: Connection, entry: Entry[Body], *, request_id: str = "", digest: str = "") -> None:
        """Keep a new entry."""
        values = _values(entry) | {
            "kind": type(entry.body).__name__,
            "tenant": tenant_of(entry.name),
            "uid": entry.uid,
            "request_id": request_id or None,
            "request_digest": digest,
        }
        connection.execute(insert(_entries).values(values))
        _announce(connection, type(entry.body), entry.name)

    def replace(self, connection: Connection, entry: Entry[Body], revision: int) -> bool:
        """Put the entry in the place of its revision `revision`; false where that is not the current one."""
        result = connection.execute(
            update(_entries)
            .where(
                _entries.c.kind == type(entry.body).__name__,
                _entries.c.name == entry.name,
                _entries.c.revision == revision,
                _entries.c.delete_time.is_(None),
            )
            .values(_values(entry))
        )
        _announce(connection, type(entry.body), entry.name)
        return result.rowcount == 1

    def bury(self, connection: Connection, kind: type[Body], name: str, *, forever: bool) -> None:
        """Delete an entry; `forever` keeps the name from being given again."""
        where = (_entries.c.kind == kind.__name__, _entries.c.name == name)
        if forever:
            connection.execute(update(_entries).where(*where).values(delete_time=datetime.now(UTC).isoformat()))
        else:
            connection.execute(_entries.delete().where(*where))
        _announce(connection, kind, name)

    @staticmethod
    def _row(connection: Connection, kind: type, name: str) -> Row[Any] | None:
        statement = select(_entries).where(_entries.c.kind == kind.__name__, _entries.c.name == name)
        return connection.execute(statement).one_or_none()


def _announce(connection: Connection, kind: type, name: str) -> None:
    announce(connection, "entries", f"{kind.__name__} {name}")


def _values(entry: Entry[Body]) -> dict[str, object]:
    return {
        "name": entry.name,
        "revision": entry.revision,
        "create_time": entry.create_time.isoformat(),
        "update_time": entry.update_time.isoformat(),
        "labels": msgspec.json.encode(entry.labels).decode(),
        "body": msgspec.json.encode(entry.body).decode(),
    }


def _entry(kind: type[Body], row: Row[Any]) -> Entry[Body]:
    return Entry(
        name=row.name,
        uid=row.uid,
        revision=row.revision,
        create_time=datetime.fromisoformat(row.create_time),
        update_time=datetime.fromisoformat(row.update_time),
        labels=msgspec.json.decode(row.labels),
        body=msgspec.json.decode(row.body, type=kind),
    )
