"""Runs and their events, as the core sees them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from mesh.identity import Requester
from orchestrator.problem import Problem

__all__ = [
    "ENDED",
    "PAGE_BYTES",
    "PUT_ASIDE",
    "REDRIVABLE",
    "Ahead",
    "Event",
    "EventKind",
    "NewEvent",
    "Run",
    "RunLease",
    "Source",
    "StepKey",
    "StepResult",
    "fitting",
    "rank_of",
]

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "DEAD_LETTERED"})
"""The states in which nothing more happens by itself."""

REDRIVABLE = frozenset({"FAILED", "DEAD_LETTERED"})
"""The states from which a run may be tried again."""

PAGE_BYTES = 4 * 1024 * 1024
"""How large the values of runs or events are that are read at once to be shown; a single one may be larger."""

_PRIORITY_STEP_MS = 60_000

PUT_ASIDE = frozenset({"WAITING", "WAITING_INPUT"})
"""The states in which nobody holds a run, until a moment or an answer."""

EventKind = str
"""A value of the contract's `RunEvent.Type`, by name."""


class StepKey(NamedTuple):
    """One coming of the flow to a step, the same however often the run is gone on with.

    Attributes:
        scope: how often the flow had come to each fork around the step, from the outermost on; empty outside forks.
        pointer: JSON pointer to the step; with a mark behind `#` for what is noted on the way and is no step's end.
        occurrence: how often the flow has come to it within the scope, counted from 1.
    """

    scope: str
    pointer: str
    occurrence: int


class StepResult(msgspec.Struct, frozen=True):
    """What a step came to; enough to go on from without doing it again.

    Attributes:
        output: what it passes on.
        context: the flow's context from then on; None where it did not change it.
        then: where the flow goes.
        exported: true where it changed the context.
        skipped: true where its condition did not hold.
    """

    output: Any = None
    context: Any = None
    then: str = "continue"
    exported: bool = False
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be journalled.

    Attributes:
        kind: what happened.
        step: JSON pointer to the step; empty for the run as a whole.
        occurrence: how often the flow has come to this step, counted from 1.
        attempt: how often this step has begun, counted from 1; 0 for what is noted on the way and is no step's end.
        result: of a step.
        value: the run's output; what a call with an effect was given; what is waited for, asked or answered.
        problem: what went wrong.
        duration_ms: how long the step took.
        scope: see `StepKey`.
    """

    kind: EventKind
    step: str = ""
    occurrence: int = 0
    attempt: int = 0
    result: StepResult | None = None
    value: Any = None
    problem: Problem | None = None
    duration_ms: float = 0.0
    scope: str = ""

    @property
    def key(self) -> StepKey:
        """Which coming to which step it is about."""
        return StepKey(self.scope, self.step, self.occurrence)


@dataclass(frozen=True, slots=True)
class Event:
    """A journalled event: its place in the run, counted from 1 without gaps, and when it was committed.

    Attributes:
        size: bytes of JSON that it takes in the journal, besides its fixed parts.
    """

    sequence: int
    time: datetime
    what: NewEvent
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is to be done next for runs that nobody holds.

    Attributes:
        wake_time: when the next run that was put aside goes on; None where none waits for a moment.
        unheld: whether runs are queued, or were begun and nobody holds them any more.
    """

    wake_time: datetime | None
    unheld: bool


@dataclass(frozen=True, slots=True)
class Source:
    """Where a run was forked from: the run, and the last of its events that was copied."""

    run: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands.

    Attributes:
        name: `tenants/{tenant}/agents/{agent}/runs/{run}`.
        uid: never given twice.
        revision: the revision that it is pinned to.
        state: QUEUED, RUNNING, WAITING, WAITING_INPUT, SUCCEEDED, FAILED, CANCELLED or DEAD_LETTERED.
        input: what it begins with.
        requester: on whose behalf.
        create_time: UTC, like all of them.
        sequence: of its newest event.
        priority: 0 to 9; see `rank_of`.
        attempt: 1, and 1 more each time it is redriven.
        source: where it was forked from.
        schedule: the schedule that made it; empty for all others.
        scheduled_time: the time for which it did.
        trace: the trace that it belongs to and the span above it, see `orchestrator.traces`; empty for none.
        revision_uid: which revision of that name; empty for runs that were made before this was noted.
        size: bytes of JSON of its input and output where it was read; 0 for one that was just made.
    """

    name: str
    uid: str
    revision: str
    state: str
    input: Any
    requester: Requester
    create_time: datetime
    update_time: datetime
    sequence: int
    steps: int = 0
    output: Any = None
    problem: Problem | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    cancel_requested: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    attempt: int = 1
    source: Source | None = None
    schedule: str = ""
    scheduled_time: datetime | None = None
    trace: str = ""
    revision_uid: str = ""
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RunLease:
    """The right to write a run's events: its owner, and the epoch that every write must carry."""

    run: Run
    owner: str
    epoch: int


def fitting(runs: Iterable[Run]) -> int:
    """How many runs, from the first on, fit into one answer; at least one."""
    count = size = 0
    for run in runs:
        size += run.size
        if size > PAGE_BYTES:
            break
        count += 1
    return max(1, count)


def rank_of(since: datetime, priority: int) -> int:
    """Where a run stands in the queue that it has waited in since then; the lowest goes first.

    A step of priority is worth a minute of waiting. All runs age alike, so the order of two never changes and an index
    can hold it, and whatever comes later with whatever priority goes first for nine minutes at most.
    """
    return int(since.timestamp() * 1000) - priority * _PRIORITY_STEP_MS
