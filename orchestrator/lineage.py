"""Runs that begin where another one was: forks that copy the first events, redrives that go back to the failed step.

Both only add events. What those make of the events before them is `standing`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from mesh.db import Transaction
from mesh.errors import InvalidError
from orchestrator.errors import RevisionIncompatibleError, RunNotRedrivableError
from orchestrator.flow import Flow
from orchestrator.flow.steps import Step, walk
from orchestrator.ports import RunRows
from orchestrator.problem import Problem
from orchestrator.runs import Event, NewEvent, Run

__all__ = ["check_compatible", "copies_no_step", "fork_point", "redrive", "standing"]

_OF_STEPS = frozenset({"STEP_STARTED", "STEP_SUCCEEDED", "STEP_FAILED"})


def standing(events: Iterable[NewEvent]) -> list[NewEvent]:
    """What of a run's events, from the first on, still counts after its redrives and its fork.

    A redrive undoes the failure that ended the run, that a fork came to it, how a `catch` looked at it, and questions
    that nobody waits for any more. A fork undoes calls that had begun and not ended, and questions: they were the
    source's, under the source's effect keys and names.
    """
    kept: list[NewEvent | None] = []
    for event in events:
        if event.kind == "RUN_REDRIVEN":
            first = int(event.value["undone_from"])
            for at in range(first - 1 if first else len(kept), len(kept)):
                if _is_verdict(kept[at]):
                    kept[at] = None
            kept = _without_begun(kept, ("INPUT_REQUESTED",))
        elif event.kind == "RUN_FORKED":
            kept = _without_begun(kept, ("STEP_STARTED", "INPUT_REQUESTED"))
        kept.append(event)
    return [event for event in kept if event is not None]


def _without_begun(kept: list[NewEvent | None], kinds: tuple[str, ...]) -> list[NewEvent | None]:
    """Events without those of some kinds whose step has not ended."""
    ended = {each.key for each in kept if each is not None and _has_ended(each)}
    return [None if each is None or (each.kind in kinds and each.key not in ended) else each for each in kept]


def _is_verdict(event: NewEvent | None) -> bool:
    if event is None or event.kind == "STEP_FAILED":
        return event is not None
    if event.step.endswith("#joined") and event.result is not None:
        return "problem" in event.result.output
    return _has_ended(event) and event.step.endswith(("#catch", "#retry"))


def _has_ended(event: NewEvent) -> bool:
    return event.kind in ("STEP_SUCCEEDED", "STEP_FAILED")


def redrive(transaction: Transaction, rows: RunRows, run: Run, principal: str, now: datetime) -> Run:
    """Queue a run that has failed again, to go on at the step that failed.

    Raises:
        RunNotRedrivableError: it has not failed, or somebody else was faster.
    """
    cause = _cause(rows.failures(transaction, run.name), run.problem)
    redriven = rows.redrive(transaction, run.name, principal, cause, now)
    if redriven is None:
        raise RunNotRedrivableError(
            f"{run.name} is {run.state}; only runs that are FAILED or DEAD_LETTERED are tried again", state=run.state
        )
    return redriven


def _cause(failures: Sequence[tuple[int, str, Problem]], ended_by: Problem | None) -> int:
    """Sequence of the failure that ended a run; 0 where none of a step did.

    A step around others may fail with the same problem as the one inside that brought it down; that one is meant then.
    """
    cause, around = 0, ""
    for sequence, step, problem in failures:
        if problem == ended_by and (not cause or step.startswith(around + "/")):
            cause, around = sequence, step
    return cause


def fork_point(events: Sequence[Event], after_sequence: int, step: str) -> int:
    """The last event that a fork copies, at least the first one.

    Args:
        events: of the source.
        after_sequence: the last to copy; 0 for none of a step.
        step: JSON pointer to the first step to do again; empty for none such.

    Raises:
        InvalidError: both are given, or there is no such event or step.
    """
    if step and after_sequence:
        raise InvalidError("step", "give either `step` or `after_sequence`")
    if step:
        inside = (f"{step}/", f"{step}#")
        for event in events:
            if event.what.step == step or event.what.step.startswith(inside):
                return max(1, event.sequence - 1)
        raise InvalidError("step", f"the run has not come to {step[:200]}")
    if after_sequence > len(events):
        raise InvalidError("after_sequence", f"the run has {len(events)} events so far")
    return max(1, after_sequence)


def copies_no_step(events: Iterable[NewEvent]) -> bool:
    """Whether a prefix has nothing in it that depends on the run's input."""
    return not any(event.kind in _OF_STEPS for event in events)


def check_compatible(prefix: Iterable[NewEvent], old: Flow, new: Flow) -> None:
    """Refuse another revision in which a step that the prefix knows is not there, or is another one.

    Raises:
        RevisionIncompatibleError: it names the step.
    """
    known = list(dict.fromkeys(event.step.partition("#")[0] for event in prefix if event.kind in _OF_STEPS))
    before = {step.pointer: step for step in walk(old.steps)}
    after = {step.pointer: step for step in walk(new.steps)}
    for pointer in known:
        same = _own(before.get(pointer)) == _own(after.get(pointer)) if pointer else old.input_from == new.input_from
        if not same:
            raise RevisionIncompatibleError(
                f"{pointer or 'the input'} was done already and is another step in that revision; fork from before it, "
                "or choose a revision in which it is the same",
                step=pointer,
            )


def _own(step: Step | None) -> object:
    """What a step is besides the steps inside it, which are compared by themselves."""
    return None if step is None else _without_steps(step)


def _without_steps(value: Any) -> object:  # noqa: ANN401 -- any part of a step
    if isinstance(value, tuple):
        return tuple(_without_steps(each) for each in value if not hasattr(each, "pointer"))
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(_without_steps(getattr(value, field.name)) for field in fields(value)))
    return value
