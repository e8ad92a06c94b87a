"""The SQL of where schedules stand: every step is taken over the standing that it was thought out for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, column, delete, func, insert, or_, select, table, update

from mesh.resource import tenant_of
from orchestrator.schedules import Standing

__all__ = ["ScheduleStore"]

_FIELDS = tuple(field.name for field in fields(Standing))
_schedules = table("schedules", column("name"), column("tenant"), *(column(name) for name in _FIELDS))


class ScheduleStore:
    """Statements on a connection; each method runs inside the caller's transaction."""

    def get(self, connection: Connection, name: str) -> Standing | None:
        """One standing."""
        return self.all(connection, [name]).get(name)

    def all(self, connection: Connection, names: Sequence[str]) -> dict[str, Standing]:
        """Standings by schedule."""
        rows = connection.execute(select(_schedules).where(_schedules.c.name.in_(names)))
        return {row.name: _standing(row) for row in rows}

    def put(self, connection: Connection, name: str, standing: Standing) -> None:
        """Keep a standing, whatever was before."""
        self.remove(connection, name)
        values = {"name": name, "tenant": tenant_of(name), **_values(standing)}
        connection.execute(insert(_schedules).values(values))

    def change(self, connection: Connection, name: str, old: Standing, new: Standing) -> bool:
        """Keep a standing where the old one still holds; returns whether it did."""
        before = _values(old)
        still = (_schedules.c[key].is_not_distinct_from(before[key]) for key in ("next_time", "buffered_time"))
        statement = (
            update(_schedules)
            .where(_schedules.c.name == name, _schedules.c.generation == old.generation, *still)
            .values(_values(new))
        )
        return connection.execute(statement).rowcount == 1

    def remove(self, connection: Connection, name: str) -> None:
        """Forget a standing."""
        connection.execute(delete(_schedules).where(_schedules.c.name == name))

    def due(self, connection: Connection, now: datetime, limit: int) -> list[str]:
        """Schedules whose fire time has come, or that have a run waiting for the end of another; the latest last."""
        ready = or_(_schedules.c.fire_time <= _millis(now), _schedules.c.buffered_time.is_not(None))
        found = select(_schedules.c.name).where(ready).order_by(_schedules.c.fire_time, _schedules.c.name).limit(limit)
        return [row.name for row in connection.execute(found)]

    def first_fire(self, connection: Connection) -> datetime | None:
        """When the next schedule is to fire."""
        first = select(func.min(_schedules.c.fire_time)).where(_schedules.c.fire_time.is_not(None))
        return _moment(connection.execute(first).scalar_one_or_none())


def _values(standing: Standing) -> dict[str, Any]:
    return {name: _millis(value) if isinstance(value, datetime) else value for name, value in asdict(standing).items()}


def _standing(row: Row[Any]) -> Standing:
    given: dict[str, Any] = {
        name: _moment(getattr(row, name)) if name.endswith("_time") else getattr(row, name) for name in _FIELDS
    }
    return Standing(**given)


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(millis: int | None) -> datetime | None:
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC)
