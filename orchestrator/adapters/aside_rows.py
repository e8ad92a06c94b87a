"""The SQL of runs that are put aside: until when, who is woken, and word that reaches a run from outside.

Runs are taken up by `orchestrator.store.runs`; whether there are any to be is asked here, in one statement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Text,
    and_,
    bindparam,
    case,
    column,
    exists,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    table,
    update,
)

from mesh.db import announce
from mesh.resource import tenant_of
from orchestrator.runs import PUT_ASIDE, Ahead, NewEvent, RunLease

__all__ = ["AsideRows"]

_runs = table(
    "runs",
    *(
        column(name)
        for name in (
            "name", "tenant", "state", "cancel_requested", "wake_time", "sequence", "update_time", "owner",
            "lease_expires",
        )
    ),
)  # fmt: skip

# States stand in the text of these statements, not in parameters, or SQLite could not use the indexes made for them.
_ASIDE = _runs.c.state.in_([literal_column(f"'{state}'") for state in sorted(PUT_ASIDE)])
_QUEUED = _runs.c.state == literal_column("'QUEUED'")
_LEFT = and_(
    _runs.c.state == literal_column("'RUNNING'"),
    or_(_runs.c.lease_expires.is_(None), _runs.c.lease_expires < bindparam("the_time", type_=Text)),
)
_UNENDED = _runs.c.state.in_(("QUEUED", "RUNNING", *sorted(PUT_ASIDE)))
_UNHEARD = and_(_runs.c.cancel_requested == false(), _runs.c.wake_time.is_(None))
"""Nothing has reached the run while it was worked on: `wake_time` is set then as well."""
_MOST_AT_ONCE = 1000
_AHEAD = select(
    select(func.min(_runs.c.wake_time)).where(_ASIDE, _runs.c.wake_time.is_not(None)).scalar_subquery(),
    or_(exists().where(_QUEUED), exists().where(_LEFT)),
)


class AsideRows(ABC):
    """Statements on a connection; each method runs inside the caller's transaction."""

    def put_aside(
        self,
        connection: Connection,
        lease: RunLease,
        events: Sequence[NewEvent],
        state: str,
        until: datetime | None,
        now: datetime,
    ) -> None:
        """Journal events and let go of the run until a moment or an answer; queue it where word has come meanwhile.

        Raises:
            LeaseLostError: somebody else holds the run, or it has ended.
        """
        self._advance(connection, lease, events, now, {"owner": None, "lease_expires": None})
        moment = until.isoformat() if until is not None else None
        aside = {
            "state": case((_UNHEARD, state), else_="QUEUED"),
            "wake_time": case((_UNHEARD, moment), else_=null()) if moment is not None else null(),
        }
        connection.execute(update(_runs).where(*_named(lease.run.name)).values(aside))

    def wake(self, connection: Connection, now: datetime) -> int:
        """Queue the runs whose moment has come, the first ones first; returns how many."""
        due = (
            select(_runs.c.name)
            .where(_ASIDE, _runs.c.wake_time <= now.isoformat())
            .order_by(_runs.c.wake_time)
            .limit(_MOST_AT_ONCE)
        )
        woken = {"state": "QUEUED", "wake_time": None}
        return connection.execute(update(_runs).where(_runs.c.name.in_(due), _ASIDE).values(woken)).rowcount

    def ahead(self, connection: Connection, now: datetime) -> Ahead:
        """What is to be done next for runs that nobody holds."""
        moment, unheld = connection.execute(_AHEAD, {"the_time": now.isoformat()}).one()
        return Ahead(datetime.fromisoformat(moment) if moment else None, bool(unheld))

    def hear(self, connection: Connection, name: str, event: NewEvent, now: datetime) -> bool:
        """Journal word from outside. A run that was put aside is queued; one at work will not be put aside before it
        has heard. False where the run has ended.
        """
        heard = {
            "sequence": _runs.c.sequence + 1,
            "update_time": now.isoformat(),
            "state": case((_ASIDE, "QUEUED"), else_=_runs.c.state),
            "wake_time": case((_ASIDE, null()), else_=now.isoformat()),
        }
        statement = update(_runs).where(*_named(name), _UNENDED).values(heard).returning(_runs.c.sequence)
        row = connection.execute(statement).one_or_none()
        if row is None:
            return False
        self._journal(connection, name, row.sequence - 1, [event], now.isoformat())
        announce(connection, "answers", name)
        return True

    @abstractmethod
    def _advance(
        self,
        connection: Connection,
        lease: RunLease,
        events: Sequence[NewEvent],
        now: datetime,
        values: dict[str, Any],
    ) -> Row[Any]:
        """Move a run's sequence on, guarded by its lease, and journal the events under the new numbers."""

    @staticmethod
    @abstractmethod
    def _journal(connection: Connection, name: str, after: int, events: Sequence[NewEvent], now: str) -> None:
        """Journal events after a sequence."""


def _named(name: str) -> tuple[Any, ...]:
    return (_runs.c.tenant == tenant_of(name), _runs.c.name == name)
