"""The orchestrator's SQL: the journal of runs, how they wait and are found, schedules."""

from orchestrator.store.runs import RunStore
from orchestrator.store.schedules import ScheduleStore

__all__ = ["RunStore", "ScheduleStore"]
