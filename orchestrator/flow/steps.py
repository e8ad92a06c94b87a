"""The steps of a flow, as parsed: what is to be done, never how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Call", "Case", "Catch", "Do", "Flow", "Set", "Step", "Switch", "Template", "Try", "walk"]


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
class Call(_Common):
    """Asks another service: `infer`, `decide` or `connect`."""

    kind: str
    arguments: Template


@dataclass(frozen=True, slots=True)
class Catch:
    """What happens with an error.

    Attributes:
        matching: fields that the problem must have, by name.
        error_as: the name under which the steps see the problem.
        when: a condition on the problem.
        steps: what to do; empty to go on with nothing.
    """

    matching: tuple[tuple[str, object], ...]
    error_as: str
    when: Template | None
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


Step: TypeAlias = Set | Switch | Call | Try | Do


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
        if isinstance(step, Do):
            yield from walk(step.steps)
        elif isinstance(step, Try):
            yield from walk(step.steps)
            yield from walk(step.catch.steps)
