"""What the readers of single steps stand on: the parser as they see it, and a step's body."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from orchestrator.flow.steps import Retry, Step, Template

__all__ = ["Body", "Parser", "Reusable"]


@dataclass(frozen=True, slots=True)
class Body:
    """A step's body.

    Attributes:
        common: what every step may have, read.
        fields: everything in it.
        node: where it stands.
        pointer: JSON pointer to the step.
        names: the steps of the same list.
    """

    common: dict[str, Any]
    fields: Mapping[str, yaml.Node]
    node: yaml.Node
    pointer: str
    names: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class Reusable:
    """What `use` names: errors and retries, by their names."""

    errors: Mapping[str, Template]
    retries: Mapping[str, Retry]


class Parser(Protocol):
    """The parser of one document."""

    reusable: Reusable

    def steps(self, node: yaml.Node, pointer: str, *, jumps: bool = True) -> tuple[Step, ...]:
        """A list of steps."""

    def required(self, node: yaml.Node, pointer: str) -> Template:
        """A value, with expressions where `${ … }` says so."""

    def template(self, node: yaml.Node | None, pointer: str) -> Template | None:
        """A condition or transformation, which is an expression also without `${ … }`."""

    def duration(self, node: yaml.Node, pointer: str) -> Template:
        """A duration, or what makes one."""
