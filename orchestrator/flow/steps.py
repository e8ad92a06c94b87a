"""The steps of a flow, as parsed: what is to be done, never how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Approve", "Call", "Case", "Catch", "Do", "Flow", "For", "Fork", "Raise", "Retry", "Set", "Step", "Switch",
    "Template", "Try", "Wait", "walk",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Template:
    """A value with expressions in it, as one jq program.

    Attributes:
        program: the program that builds the value; empty where there is none in it.
        constant: the value, where there is no expression in it.
    """

    program: str
    constant: object = None


@dataclass(frozen=True, slots=True)
class _Common:
    """What every step may have.

    Attributes:
        name: its name within its list.
        pointer: JSON pointer to it, `/do/0/understand`.
        condition: it is skipped unless this is true.
        input_from: what it is given, from what came before.
        output_as: what it passes on, from what it made.
        export_as: the flow's context from now on.
        then: where to go: `continue`, `exit`, `end` or a step of the same list.
    """

    name: str
    pointer: str
    condition: Template | None
    input_from: Template | None
    output_as: Template | None
    export_as: Template | None
    then: str


@dataclass(frozen=True, slots=True)
class Set(_Common):
    """Makes a value."""

    value: Template


@dataclass(frozen=True, slots=True)
class Case:
    """One way that a switch may go; without `when` it always may."""

    when: Template | None
    then: str


@dataclass(frozen=True, slots=True)
class Switch(_Common):
    """Goes the way of the first case that holds."""

    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Raise(_Common):
    """Fails with a problem."""

    error: Template


@dataclass(frozen=True, slots=True)
class Wait(_Common):
    """Waits for a duration, text or object."""

    duration: Template


@dataclass(frozen=True, slots=True)
class Call(_Common):
    """Asks another service: `infer`, `decide`, `connect`, `http` or `grpc`; with a timeout where it may have one."""

    kind: str
    arguments: Template
    timeout: Template | None = None


@dataclass(frozen=True, slots=True)
class Approve(_Common):
    """Asks a person."""

    question: Template


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a `try` is begun again.

    Attributes:
        when: only where this holds for the problem.
        except_when: not where this holds.
        delay: before each time, a duration.
        backoff: how it grows: `constant`, `linear` or `exponential`.
        jitter: from and to, durations of which one at random is added.
        max_count: how often at most; None for no limit.
        max_duration: a duration from the first problem on, after which none begins; None for no limit.
    """

    when: Template | None = None
    except_when: Template | None = None
    delay: Template | None = None
    backoff: str = "constant"
    jitter: tuple[Template, Template] | None = None
    max_count: int | None = None
    max_duration: Template | None = None


@dataclass(frozen=True, slots=True)
class Catch:
    """What happens with an error.

    Attributes:
        matching: fields that the problem must have, by name.
        error_as: the name under which the steps see the problem.
        when: a condition on the problem.
        except_when: a condition under which the problem is not caught.
        retry: whether to try again first.
        steps: what to do; empty to go on with nothing.
    """

    matching: tuple[tuple[str, object], ...]
    error_as: str
    when: Template | None
    except_when: Template | None
    retry: Retry | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Try(_Common):
    """Does steps, and something else when one of them fails."""

    steps: tuple[Step, ...]
    catch: Catch


@dataclass(frozen=True, slots=True)
class Do(_Common):
    """Does steps one after the other."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class For(_Common):
    """Does steps for each item of a list.

    Attributes:
        each: the variable of the item.
        items: makes the list.
        at: the variable of the item's index, from 0.
        condition_while: goes on only while this is true.
        steps: what to do.
    """

    each: str
    items: Template
    at: str
    condition_while: Template | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Fork(_Common):
    """Does several steps at once; where they compete, the first to end decides."""

    branches: tuple[Step, ...]
    compete: bool


Step: TypeAlias = Set | Switch | Raise | Wait | Call | Approve | Try | Do | For | Fork


@dataclass(frozen=True, slots=True)
class Flow:
    """A whole flow.

    Attributes:
        name: the document's name: the agent's id.
        name_place: line and column of the name in the text, from 1.
        input_from: what the first step is given, from the run's input.
        output_as: what the run ends with, from the last step's output.
        steps: what to do.
    """

    name: str
    name_place: tuple[int, int]
    input_from: Template | None
    output_as: Template | None
    steps: tuple[Step, ...]


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step, those inside others included."""
    for step in steps:
        yield step
        if isinstance(step, (Do, For)):
            yield from walk(step.steps)
        elif isinstance(step, Fork):
            yield from walk(step.branches)
        elif isinstance(step, Try):
            yield from walk(step.steps)
            yield from walk(step.catch.steps)
