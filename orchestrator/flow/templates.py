"""Expressions in a flow: `${ … }` anywhere in a value, turned into one jq program for the whole value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from mesh.strict_yaml import plain
from orchestrator.flow.document import escaped
from orchestrator.flow.places import place_of
from orchestrator.flow.steps import Template

__all__ = ["VARIABLES", "Expression", "expressions_in", "template_of"]

VARIABLES = ("context", "input", "output", "workflow", "task", "runtime")
"""What an expression may use besides `.`, as `$name`."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A jq program in a flow.

    Attributes:
        program: its text.
        node: the value that holds it.
        offset: where it begins in that value.
        pointer: JSON pointer to the value, or to what is above it.
        stray: whether it is none: a `${` inside a text that is kept as it stands.
    """

    program: str
    node: yaml.ScalarNode
    offset: int
    pointer: str
    stray: bool = False

    def place(self, line: int, column: int) -> tuple[int, int]:
        """Where a place of the program stands in the flow's text; lines and columns from 1."""
        lines = self.program.split("\n")
        before = sum(len(each) + 1 for each in lines[: line - 1])
        return place_of(self.node, self.offset + before + column - 1)


def program_in(text: str) -> str | None:
    """The program in `${ … }`; None where the text is no expression."""
    stripped = text.strip()
    return stripped[2:-1] if stripped.startswith("${") and stripped.endswith("}") else None


def template_of(node: yaml.Node, *, bare: bool = False) -> Template:
    """A value as a template.

    Args:
        node: the value.
        bare: true where the text is an expression even without `${ … }` around it.
    """
    if bare and isinstance(node, yaml.ScalarNode) and isinstance(plain(node), str):
        program = program_in(node.value)
        return Template(node.value if program is None else program)
    if all(each.stray for each in expressions_in(node)):
        return Template("", plain(node))
    return Template(_build(node))


def expressions_in(node: yaml.Node, pointer: str = "", *, bare: bool = False) -> Iterator[Expression]:
    """Every expression in a value that stands at `pointer`, and what was meant to be one."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from expressions_in(value, f"{pointer}/{escaped(key.value)}")
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield from expressions_in(value, f"{pointer}/{at}")
    elif isinstance(node, yaml.ScalarNode) and isinstance(plain(node), str):
        program = program_in(node.value)
        if program is not None:
            yield Expression(program, node, node.value.index("{") + 1, pointer)
        elif bare:
            yield Expression(node.value, node, 0, pointer)
        elif "${" in node.value:
            yield Expression("", node, node.value.index("${"), pointer, stray=True)


def _build(node: yaml.Node) -> str:
    """The jq program that builds a value."""
    if isinstance(node, yaml.MappingNode):
        pairs = (f"{json.dumps(key.value)}: {_build(value)}" for key, value in node.value)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(node, yaml.SequenceNode):
        return "[" + ", ".join(_build(value) for value in node.value) + "]"
    value = plain(node)
    program = program_in(value) if isinstance(value, str) else None
    if program is not None:
        return f"({program}\n\n)"  # the first line break ends a comment, the second one that a backslash continues
    return json.dumps(value)
