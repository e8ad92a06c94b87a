"""When a schedule is due: cron in a time zone, or every so often; and how much later each run begins.

Cron follows Debian's: a time of day that the clocks leap over is due right after the leap, one that they show twice is
due the first time, and hours or minutes given as `*` follow the clock as it passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from mesh.errors import InvalidError

__all__ = ["Recurrence", "check_recurrence", "jitter_of"]

_LAST_YEAR = 2200
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The due times of one schedule, whole seconds in UTC.

    Attributes:
        cron: five fields; empty where `interval` is given.
        interval: seconds from one to the next; 0 where `cron` is given.
        timezone: of `cron`.
        anchor: a due time of `interval`.
        first: none is before.
        last: none is after; None for no end.
    """

    cron: str
    interval: int
    timezone: str
    anchor: datetime
    first: datetime = _FIRST
    last: datetime | None = None

    def after(self, moment: datetime) -> datetime | None:
        """The first due time after a moment; None where there is none any more."""
        moment = max(moment, self.first - timedelta(microseconds=1))
        due = self._stepped(moment) if self.interval else self._ticked(moment)
        return due if due is not None and (self.last is None or due <= self.last) else None

    def between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Due times from a moment to another one, both included."""
        due = self.after(first - timedelta(microseconds=1))
        while due is not None and due <= last:
            yield due
            due = self.after(due)

    def _stepped(self, moment: datetime) -> datetime | None:
        steps = (moment - self.anchor) // timedelta(seconds=self.interval) + 1
        try:
            return self.anchor + steps * timedelta(seconds=self.interval)
        except OverflowError:
            return None

    def _ticked(self, moment: datetime) -> datetime | None:
        """As cron says. In the hour that the clocks show twice cron's answer may lie behind; it is asked again then."""
        zone = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)
        local = moment.astimezone(zone)
        for due in CronSim(self.cron, local):
            found = due.astimezone(UTC)
            if found > moment:
                return found if found.year < _LAST_YEAR else None
        return None


def check_recurrence(recurrence: Recurrence) -> None:
    """Refuse what can never be due.

    Raises:
        InvalidError: neither or both of cron and interval, no such time zone, no cron, or one that is never due.
    """
    if bool(recurrence.cron) == bool(recurrence.interval):
        raise InvalidError("schedule.cron", "give exactly one of `cron` and `interval`")
    if recurrence.timezone != "UTC" and not _is_zone(recurrence.timezone):
        raise InvalidError(
            "schedule.timezone", f"`{recurrence.timezone}` is none of the IANA database; write one like `Europe/Berlin`"
        )
    if recurrence.first and recurrence.last and recurrence.last < recurrence.first:
        raise InvalidError("schedule.end_time", "lies before `start_time`")
    if not recurrence.cron:
        return
    if len(recurrence.cron.split()) != 5:
        raise InvalidError("schedule.cron", "must have five fields: minute hour day-of-month month day-of-week")
    try:
        due = recurrence._ticked(recurrence.anchor)  # noqa: SLF001 -- whatever its first and last day
    except CronSimError as error:
        raise InvalidError("schedule.cron", f"is no cron expression: {error}") from None
    if due is None:
        raise InvalidError("schedule.cron", "is never due")


def jitter_of(schedule: str, due: datetime, most_s: int) -> timedelta:
    """How much later the run of a due time begins: less than `most_s` seconds, always the same for the same time."""
    if not most_s:
        return timedelta()
    digest = hashlib.sha256(f"{schedule}@{due.isoformat()}".encode()).digest()
    return timedelta(milliseconds=int.from_bytes(digest[:8], "big") % (most_s * 1000))


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a path instead of a name, a folder of the database, nothing at all
        return False
    return True
