"""Expressions in a flow: `${ … }` anywhere in a value, turned into one jq program for the whole value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from mesh.strict_yaml import plain
from orchestrator.flow.steps import Template

__all__ = ["VARIABLES", "Expression", "expressions_in", "template_of"]

VARIABLES = ("context", "input", "output", "workflow", "task", "runtime")
"""What an expression may use besides `.`, as `$name`."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A jq program in a flow, and where it stands in the text (both from 1)."""

    program: str
    line: int
    column: int


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
        return Template(program_in(node.value) or node.value)
    if not any(expressions_in(node)):
        return Template("", plain(node))
    return Template(_build(node))


def expressions_in(node: yaml.Node, *, bare: bool = False) -> Iterator[Expression]:
    """Every expression in a value."""
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from expressions_in(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from expressions_in(value)
    elif isinstance(plain(node), str):
        program = program_in(node.value)
        if program is not None or bare:
            mark: Any = node.start_mark
            offset = node.value.index("{") + 1 if program is not None else 0
            quoted = 1 if getattr(node, "style", None) in ('"', "'") else 0
            block = 1 if getattr(node, "style", None) in ("|", ">") else 0
            yield Expression(
                node.value if program is None else program, mark.line + 1 + block, mark.column + 1 + offset + quoted
            )


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
        return f"({program}\n)"  # the line break ends a comment that the program may end with
    return json.dumps(value)
