"""The spans of a run: made from its journal when it ends or is put aside, and only for a trace that is sampled.

Identifiers follow from the run and the step, so that executors that know nothing of each other speak of one span, and
what a call leaves behind in another service has its place before the step has ended. An executor that dies has sent
nothing; the one that goes on sends what the dead one journalled, once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mesh.resource import parent_of, tenant_of
from mesh.tracing import Span, TraceContext, current_trace, derived_span_id
from orchestrator.problem import Problem
from orchestrator.runs import Event, NewEvent, Run, StepKey

__all__ = ["History", "Trail", "context_of", "run_span", "step_context", "step_spans", "trace_begun", "trace_of_call"]

_NOTHING_ABOVE = "0" * 16
_OTHERS = frozenset({"RUN_FORKED", "RUN_REDRIVEN"})
"""Events before which every step was another run's, or of another attempt."""
_SENT = frozenset({"RUN_WAITING", *_OTHERS})
"""Events with which every span of what had ended was sent."""
_ENDS = frozenset({"STEP_SUCCEEDED", "STEP_FAILED"})


def trace_of_call() -> str:
    """`Run.trace` of a run that is created by the call which the current task serves."""
    trace = current_trace.get()
    return trace.header() if trace is not None else ""


def trace_begun(trace: TraceContext | None) -> str:
    """`Run.trace` of a run with which the trace begins."""
    return trace.below(_NOTHING_ABOVE).header() if trace is not None else ""


def context_of(run: Run) -> TraceContext | None:
    """Where a run stands in its trace; None where it belongs to none. Each attempt is a span of its own."""
    if not run.trace:
        return None
    _, trace_id, _, flags = run.trace.split("-")
    return TraceContext(trace_id, derived_span_id(f"{run.uid}/{run.attempt}"), flags == "01")


def step_context(run: Run, of_run: TraceContext, key: StepKey) -> TraceContext:
    """Where a step of a run stands. However often the step is begun, it is one span."""
    return of_run.below(derived_span_id(f"{run.uid}/{run.attempt}/{key.scope}/{key.pointer}/{key.occurrence}"))


class Trail:
    """Which steps a flow came to, and inside which others: an interpreter notes it on its way, from the first step on.

    Attributes:
        run: the run.
        of_run: where the run stands in its trace.
        parents: of each step the step around it; None for the run itself.
        left: the steps around others that the flow has left, and the problem with which it did.
        stopped: the steps that were not let come to their end, and when.
    """

    def __init__(self, run: Run, of_run: TraceContext) -> None:
        self.run = run
        self.of_run = of_run
        self.parents: dict[StepKey, StepKey | None] = {}
        self.left: dict[StepKey, Problem | None] = {}
        self.stopped: dict[StepKey, datetime] = {}

    def at(self, key: StepKey) -> TraceContext:
        """Where a step stands in the trace."""
        return step_context(self.run, self.of_run, key)


class History:
    """What a run's journal says of its steps, with times.

    Args:
        run: as it was claimed.
        events: everything journalled before.

    Attributes:
        begun: when the run was created, or redriven.
        steps: how many steps have succeeded.
        noted: events of steps and when they were, in order.
        sent: how many of these tell of what has been sent.
    """

    def __init__(self, run: Run, events: Sequence[Event]) -> None:
        self.begun = run.create_time
        self.steps = run.steps
        self.noted: list[tuple[datetime, NewEvent]] = []
        self.sent = 0
        for event in events:
            if event.what.kind == "RUN_REDRIVEN":
                self.begun = event.time
            if event.what.kind in _OTHERS:
                self.noted.clear()
            if event.what.kind in _SENT:
                self.sent = len(self.noted)
            elif event.what.step:
                self.noted.append((event.time, event.what))

    def note(self, event: NewEvent) -> None:
        """Note what happens now."""
        self.noted.append((datetime.now(UTC), event))
        self.steps += event.kind == "STEP_SUCCEEDED" and event.attempt > 0


def run_span(
    run: Run, begun: datetime, ended: datetime, state: str, steps: int, problem: Problem | None
) -> Span | None:
    """The span of a run that has ended; None where its trace is not sampled."""
    context = context_of(run)
    if context is None or not context.sampled:
        return None
    above = run.trace.split("-")[2]
    known: dict[str, Any] = {
        "tiation.run": run.name,
        "tiation.agent": parent_of(run.name),
        "tiation.revision": run.revision,
        "tiation.tenant": tenant_of(run.name),
        "tiation.state": state,
        "tiation.steps": steps,
        "tiation.attempt": run.attempt,
        "tiation.schedule": run.schedule,
        "tiation.source": run.source.run if run.source is not None else "",
        "error.type": _reason(problem),
    }
    name = f"run {parent_of(run.name).rsplit('/', 1)[-1]}"
    parent = "" if above == _NOTHING_ABOVE else above
    attributes = {key: value for key, value in known.items() if value != ""}
    return Span(name, "internal", context, parent, _ns(begun), _ns(ended), attributes, _reason(problem))


@dataclass(slots=True)
class _Seen:
    """What is known of one step: from when to when it was, and how it ended.

    Attributes:
        begun: by its first event, or by the first step inside it.
        ended: by its end, or by the last step inside it; None while it has not.
        fresh: whether it has ended since spans were last sent.
        event: its end.
    """

    begun: datetime | None = None
    ended: datetime | None = None
    fresh: bool = False
    event: NewEvent | None = None
    problem: Problem | None = None
    inside: list[StepKey] = field(default_factory=list)


def step_spans(trail: Trail, history: History) -> Iterator[Span]:
    """The spans of the steps that have ended since spans were last sent."""
    seen = _seen(history)
    for key, when in trail.stopped.items():
        step = seen.setdefault(key, _Seen(when))
        step.ended, step.fresh = when, True
    parents = {key: _fork_around(key) for key in seen} | trail.parents
    for key in trail.parents:
        seen.setdefault(key, _Seen())
    for key, parent in parents.items():
        if parent is not None:
            seen.setdefault(parent, _Seen()).inside.append(key)
    for key in reversed(trail.parents):  # what is inside was come to later
        _widen(seen[key], [seen[each] for each in seen[key].inside], was_left=key in trail.left)
        seen[key].problem = seen[key].problem or trail.left.get(key)
    for key, step in seen.items():
        if step.fresh and step.begun is not None and step.ended is not None:
            above = parents.get(key)
            parent_id = trail.at(above).span_id if above is not None else trail.of_run.span_id
            yield _step_span(trail, key, step, parent_id)


def _seen(history: History) -> dict[StepKey, _Seen]:
    """What the journal says of each step by itself."""
    seen: defaultdict[StepKey, _Seen] = defaultdict(_Seen)
    for number, (time, event) in enumerate(history.noted):
        if "#" in event.step:
            continue
        step = seen[event.key]
        first = time - timedelta(milliseconds=event.duration_ms)
        step.begun = first if step.begun is None else min(step.begun, first)
        if event.kind in _ENDS:
            step.ended, step.event, step.problem = time, event, event.problem
            step.fresh = number >= history.sent
    return dict(seen)


def _widen(step: _Seen, inside: Sequence[_Seen], *, was_left: bool) -> None:
    """Let a step around others span them; it has ended by its own event, or with the last of them."""
    for each in inside:
        if each.begun is not None:
            step.begun = each.begun if step.begun is None else min(step.begun, each.begun)
    if step.event is not None or not was_left:
        return
    last = max((each for each in inside if each.ended is not None), key=lambda each: each.ended, default=None)  # type: ignore[arg-type,return-value]
    if last is not None:
        step.ended, step.fresh = last.ended, last.fresh


def _fork_around(key: StepKey) -> StepKey | None:
    """The fork of a step in a branch that was over when the run was taken up, and is not gone through again."""
    if not key.scope:
        return None
    around, _, occurrence = key.scope.rpartition(".")
    return StepKey(around, key.pointer.rpartition("/fork/branches")[0], int(occurrence))


def _step_span(trail: Trail, key: StepKey, step: _Seen, parent: str) -> Span:
    assert step.begun is not None and step.ended is not None  # noqa: S101, PT018 -- asked before
    pointer, _, mark = key.pointer.partition("#")
    name = pointer.rsplit("/", 1)[-1]
    what, _, number = mark.partition("/")
    known: dict[str, Any] = {
        "tiation.run": trail.run.name,
        "tiation.step": pointer,
        "tiation.occurrence": key.occurrence,
        "tiation.scope": key.scope,
        "tiation.number": int(number) if number else "",
        "tiation.attempt": step.event.attempt if step.event is not None else "",
        "error.type": _reason(step.problem),
    }
    if step.event is not None and step.event.result is not None and step.event.result.skipped:
        known["tiation.skipped"] = True
    if key in trail.stopped:
        known["tiation.stopped"] = True
    attributes = {name: value for name, value in known.items() if value != ""}
    return Span(
        f"step {name} {what}".rstrip(), "internal", trail.at(key), parent, _ns(step.begun), _ns(step.ended),
        attributes, _reason(step.problem),
    )  # fmt: skip


def _reason(problem: Problem | None) -> str:
    return (problem.reason or problem.type.rsplit("/", 1)[-1]) if problem is not None else ""


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
